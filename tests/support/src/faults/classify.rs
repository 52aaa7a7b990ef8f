use http::{HeaderMap, Method, Uri};

/// How a proxy names the requests that pass it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// S3's operations, for path-style requests: `UploadPart`, `HeadObject`, …
    S3,
    /// The method: `GET`, `PUT`, …
    Http,
}

impl Dialect {
    /// The operation's name.
    pub fn operation(self, method: &Method, uri: &Uri, headers: &HeaderMap) -> String {
        match self {
            Self::S3 => s3(method, uri, headers).to_owned(),
            Self::Http => method.to_string(),
        }
    }
}

fn s3(method: &Method, uri: &Uri, headers: &HeaderMap) -> &'static str {
    let path = uri.path().trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let query = uri.query().unwrap_or("");
    let has = |name: &str| {
        let mut names = query.split('&').map(|pair| pair.split('=').next());
        names.any(|found| found == Some(name))
    };
    let copies = headers.contains_key("x-amz-copy-source");
    match (method.as_str(), key.is_empty()) {
        ("PUT", false) if has("partNumber") && copies => "UploadPartCopy",
        ("PUT", false) if has("partNumber") => "UploadPart",
        ("PUT", false) if copies => "CopyObject",
        ("PUT", false) => "PutObject",
        ("PUT", true) => "CreateBucket",
        ("POST", false) if has("uploads") => "CreateMultipartUpload",
        ("POST", false) if has("uploadId") => "CompleteMultipartUpload",
        ("POST", true) if has("delete") => "DeleteObjects",
        ("DELETE", false) if has("uploadId") => "AbortMultipartUpload",
        ("DELETE", false) => "DeleteObject",
        ("GET", false) if has("uploadId") => "ListParts",
        ("GET", false) => "GetObject",
        ("GET", true) if bucket.is_empty() => "ListBuckets",
        ("GET", true) if has("uploads") => "ListMultipartUploads",
        ("GET", true) if has("location") => "GetBucketLocation",
        ("GET", true) if has("list-type") => "ListObjectsV2",
        ("GET", true) => "ListObjects",
        ("HEAD", false) => "HeadObject",
        ("HEAD", true) => "HeadBucket",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_names_of_s3() {
        for (method, uri, operation) in [
            ("PUT", "/b/k/data", "PutObject"),
            ("PUT", "/b/k?partNumber=1&uploadId=u", "UploadPart"),
            ("POST", "/b/k?uploads=", "CreateMultipartUpload"),
            ("POST", "/b/k?uploads", "CreateMultipartUpload"),
            ("POST", "/b/k?uploadId=u", "CompleteMultipartUpload"),
            ("DELETE", "/b/k?uploadId=u", "AbortMultipartUpload"),
            ("GET", "/b?uploads&prefix=p", "ListMultipartUploads"),
            ("GET", "/b/k?uploadId=u", "ListParts"),
            ("HEAD", "/b/k", "HeadObject"),
            ("HEAD", "/b/", "HeadBucket"),
        ] {
            let uri = uri.parse().unwrap();
            let method = method.parse().unwrap();
            let found = Dialect::S3.operation(&method, &uri, &HeaderMap::new());
            assert_eq!(found, operation, "{method} {uri}");
        }
    }
}
