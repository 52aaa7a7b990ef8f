use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

pub(super) type AnyBody = UnsyncBoxBody<Bytes, Broken>;

/// Why a connection ends without an answer, or in the middle of one.
#[derive(Debug)]
pub(super) struct Broken(String);

impl Broken {
    pub(super) fn new(reason: impl ToString) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Self {
        Self::new(error)
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

pub(super) fn body(content: impl Into<Bytes>) -> AnyBody {
    let never = |never: std::convert::Infallible| match never {};
    Full::new(content.into()).map_err(never).boxed_unsync()
}

/// An error as S3 words it.
pub(super) fn s3_error(status: u16, code: &str) -> Response<AnyBody> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>injected</Message><RequestId>injected</RequestId></Error>"
    );
    let mut response = Response::new(body(xml));
    *response.status_mut() = StatusCode::from_u16(status).expect("not an HTTP status");
    let xml = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(header::CONTENT_TYPE, xml);
    response
}

pub(super) fn custom(
    status: u16,
    headers: &[(String, String)],
    content: Bytes,
) -> Response<AnyBody> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body(content)).expect("not an HTTP answer")
}

/// A value that HTTP allows and that `HeaderValue::to_str` refuses.
pub(super) fn non_ascii() -> HeaderValue {
    HeaderValue::from_bytes("überraschend".as_bytes()).expect("not a header value")
}
