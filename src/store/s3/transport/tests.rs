use super::*;
use crate::config::{Credentials, Secret};
use crate::test_server::{Request, Server, answer};
use std::time::Duration;

fn client() -> net::Client {
    net::Client::new(&net::Options {
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(3),
        pool_idle_timeout: Duration::from_secs(3),
        pool_size: 1,
        encrypted: true,
        ca_file: None,
    })
    .unwrap()
}

/// Sends one request to a key and gives back what arrived.
async fn arrived(addressing: Addressing, server: &Server, path: &str) -> Request {
    let transport = Transport {
        client: client(),
        credentials: CredentialSource::new(&Credentials::Static {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("secret".to_owned()),
            session_token: None,
        }),
        addressing,
    };
    let attempt = Attempt::new(Arc::new(transport), HeaderValue::from_static(USER_AGENT));
    let region = attempt.transport.addressing.region().clone();
    let mut request = SignedRequest::new("GET", "s3", &region, path);
    request.add_param("uploads", "");
    // As rusoto's client does before it hands an unsigned request on.
    request.complement();
    attempt.dispatch(request, None).await.ok().unwrap();
    server.requests().pop().unwrap()
}

/// An address has no names below it, but the digits before its first dot can play the bucket's.
async fn virtual_hosted(path: &str) -> (Request, String) {
    let server = Server::start([answer(200, "")]).await;
    let port = server.address.port();
    let addressing = Addressing::at("127", "eu-test-7", "http", &format!("0.0.1:{port}"), "");
    let request = arrived(addressing, &server, path).await;
    (request, format!("127.0.0.1:{port}"))
}

#[tokio::test]
async fn a_virtual_host_names_the_bucket_and_the_path_only_the_key() {
    // A signature holds the second it was made in: try until both are made in one.
    for _ in 0..10 {
        let (request, host) = virtual_hosted("/127/some/key:1").await;
        assert_eq!(request.line(), "GET /some/key%3A1?uploads=");
        assert_eq!(request.header("host"), Some(&*host));
        let (date, authorization) = sign_again(&host, "/some/key:1");
        if request.header("x-amz-date") == Some(&date) {
            assert_eq!(
                request.header("authorization"),
                Some(&*authorization),
                "signed for the host and path it was sent to"
            );
            return;
        }
    }
    panic!("no two signatures within one second");
}

#[tokio::test]
async fn a_virtual_hosts_root_is_the_bucket() {
    let (request, _) = virtual_hosted("/127").await;
    assert_eq!(request.line(), "GET /?uploads=");
}

#[tokio::test]
async fn a_path_style_request_names_the_bucket_in_its_path() {
    let server = Server::start([answer(200, "")]).await;
    let host = server.address.to_string();
    let mut addressing = Addressing::at("bucket", "eu-test-7", "http", &host, "/base");
    addressing.virtual_host = None;
    let request = arrived(addressing, &server, "/bucket/key").await;
    assert_eq!(request.line(), "GET /base/bucket/key?uploads=");
    assert_eq!(request.header("host"), Some(&*host));
}

/// Date and authorization of the same request, signed straight away for this host and path.
fn sign_again(host: &str, path: &str) -> (String, String) {
    let region = Region::Custom {
        name: "eu-test-7".to_owned(),
        endpoint: format!("http://{host}"),
    };
    let mut request = SignedRequest::new("GET", "s3", &region, path);
    request.add_param("uploads", "");
    let credentials = rusoto_credential::AwsCredentials::new("AKIDEXAMPLE", "secret", None, None);
    request.sign(&credentials);
    let header = |name: &str| String::from_utf8(request.headers()[name][0].clone()).unwrap();
    (header("x-amz-date"), header("authorization"))
}

#[test]
fn hosts_are_made_of_region_and_endpoint() {
    let server = Server::nowhere();
    let bucket = |endpoint: Option<&str>, region: &str, path_style| config::Bucket {
        endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
        region: region.to_owned(),
        path_style,
        ..crate::store::s3::tests::config(&server)
    };
    for (endpoint, region, path_style, expected, host) in [
        (
            None,
            "eu-central-1",
            false,
            "https://s3.eu-central-1.amazonaws.com",
            Some("blobs-bucket.s3.eu-central-1.amazonaws.com"),
        ),
        (
            None,
            "cn-north-1",
            true,
            "https://s3.cn-north-1.amazonaws.com.cn",
            None,
        ),
        (
            Some("https://s3.example.org:8443/base/"),
            "r",
            false,
            "https://s3.example.org:8443/base",
            Some("blobs-bucket.s3.example.org:8443"),
        ),
        (
            Some("http://[::1]:9000"),
            "r",
            true,
            "http://[::1]:9000",
            None,
        ),
    ] {
        let addressing = Addressing::new(&bucket(endpoint, region, path_style)).unwrap();
        assert_eq!(
            addressing.region,
            Region::Custom {
                name: region.to_owned(),
                endpoint: expected.to_owned()
            }
        );
        assert_eq!(addressing.virtual_host.as_deref(), host);
    }
}
