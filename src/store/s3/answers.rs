//! The XML documents in the store's answers. rusoto's own parser never returns from one that is cut
//! short or malformed, so it is given none.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#RESTErrorResponses>
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ErrorDocument {
    pub code: String,
    pub message: String,
}

impl ErrorDocument {
    /// `None` where the body is something else, such as a success or a load balancer's page.
    pub fn parse(body: &[u8]) -> Option<Self> {
        parse::<Self>("Error", body).filter(|document| !document.code.is_empty())
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    upload_id: String,
}

/// The id of an upload just begun.
pub(super) fn upload_id(body: &[u8]) -> Option<String> {
    let created: Created = parse("InitiateMultipartUploadResult", body)?;
    Some(created.upload_id).filter(|id| !id.is_empty())
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
#[derive(Debug, Deserialize)]
struct Completed {
    #[serde(rename = "ETag")]
    e_tag: String,
}

/// True where the document says that the upload was completed, by naming the object's ETag.
pub(super) fn confirms_completion(body: &[u8]) -> bool {
    parse::<Completed>("CompleteMultipartUploadResult", body)
        .is_some_and(|completed| !completed.e_tag.is_empty())
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Listing {
    pub is_truncated: bool,
    pub next_key_marker: String,
    pub next_upload_id_marker: String,
    #[serde(rename = "Upload")]
    pub uploads: Vec<ListedUpload>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListedUpload {
    pub key: String,
    pub upload_id: String,
    pub initiated: String,
}

impl Listing {
    pub fn parse(body: &[u8]) -> Option<Self> {
        parse("ListMultipartUploadsResult", body)
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct PartListing {
    pub is_truncated: bool,
    pub next_part_number_marker: String,
    #[serde(rename = "Part")]
    pub parts: Vec<ListedPart>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListedPart {
    pub last_modified: String,
}

impl PartListing {
    pub fn parse(body: &[u8]) -> Option<Self> {
        parse("ListPartsResult", body)
    }
}

/// `None` where the body is no whole document with this root: the deserializer alone would take a
/// root of any name.
fn parse<T: DeserializeOwned>(root: &str, body: &[u8]) -> Option<T> {
    // S3 sends white space while it works on a long CompleteMultipartUpload.
    let text = std::str::from_utf8(body).ok()?.trim_ascii();
    let document = match text.strip_prefix("<?xml") {
        Some(rest) => rest.split_once("?>")?.1.trim_start(),
        None => text,
    };
    let after_name = document.strip_prefix('<')?.strip_prefix(root)?;
    let named = after_name.starts_with(|c: char| c == '>' || c == '/' || c.is_ascii_whitespace());
    if !named {
        return None;
    }
    quick_xml::de::from_str(document).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

    #[test]
    fn only_error_documents_are_read_as_such() {
        let parsed = |body: &str| ErrorDocument::parse(body.as_bytes());
        let expected = ErrorDocument {
            code: "SlowDown".to_owned(),
            message: "Please reduce your request rate & wait".to_owned(),
        };
        assert_eq!(
            parsed(&format!(
                "{DECLARATION}  \n<Error><Code>SlowDown</Code>\
                 <Message>Please reduce your request rate &amp; wait</Message>\
                 <RequestId>1</RequestId><HostId>2</HostId></Error>"
            )),
            Some(expected)
        );
        assert_eq!(
            parsed(" \n<Error><Code>NoSuchKey</Code></Error>").map(|document| document.code),
            Some("NoSuchKey".to_owned())
        );
        for other in [
            "",
            "<html><body>502 Bad Gateway</body></html>",
            "<?xml version=\"1.0\"?>",
            "<?xml",
            "<Error>",
            "<Error><Code>SlowDown",
            "<Error><Code>SlowDown</Code>",
            "<Error></Error>",
            "<Error/>",
            "<Errors><Code>SlowDown</Code></Errors>",
            "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
        assert_eq!(
            ErrorDocument::parse(b"<Error><Code>\xff</Code></Error>"),
            None
        );
    }

    #[test]
    fn a_completion_is_confirmed_by_an_etag_alone() {
        let confirmed = |body: &str| confirms_completion(body.as_bytes());
        assert!(confirmed(
            "   <?xml version=\"1.0\" encoding=\"UTF-8\"?>\n     \n\
             <CompleteMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Location>http://b.s3/k</Location><Bucket>b</Bucket><Key>k</Key>\
             <ETag>&quot;3858f62230ac3c915f300c664312c11f-9&quot;</ETag>\
             </CompleteMultipartUploadResult>\n"
        ));
        for other in [
            "",
            "      ",
            DECLARATION,
            "<CompleteMultipartUploadResult/>",
            "<CompleteMultipartUploadResult><ETag/></CompleteMultipartUploadResult>",
            "<CompleteMultipartUploadResult><ETag>x</ETag>",
            "<Error><Code>InternalError</Code></Error>",
            "<Error><ETag>x</ETag></Error>",
        ] {
            assert!(!confirmed(other), "{other}");
        }
    }

    #[test]
    fn an_upload_has_an_id() {
        let id = |body: &str| upload_id(body.as_bytes());
        let document = "<InitiateMultipartUploadResult xmlns=\"x\"><Bucket>b</Bucket>\
                        <UploadId> a&amp;b </UploadId></InitiateMultipartUploadResult>";
        assert!(id(document).is_some_and(|id| id.contains("a&b")));
        for other in ["", "<html>", "<a>", "<InitiateMultipartUploadResult/>"] {
            assert_eq!(id(other), None, "{other}");
        }
    }
}
