use super::*;
use crate::test_server::{Server, Step, answer};
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

fn options() -> Options {
    Options {
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(10),
        pool_idle_timeout: Duration::from_secs(5),
        pool_size: 4,
        encrypted: true,
        ca_file: None,
    }
}

fn client() -> Client {
    Client::new(&options()).unwrap()
}

fn get(server: &Server, path: &str) -> Request<Body> {
    let uri = format!("http://{}{path}", server.address);
    Request::get(uri).body(empty()).unwrap()
}

async fn class(step: Step) -> ErrorClass {
    let server = Server::start([step]).await;
    let called = client().call(get(&server, "/"), 1000).await;
    called.unwrap_err().class
}

#[tokio::test(start_paused = true)]
async fn paths_go_out_as_they_are() {
    let server = Server::start([answer(200, "")]).await;
    let path = "/v2/../a//b/%2e%2E/sha256%3aAB?q=%41+b&&x";
    client().call(get(&server, path), 0).await.unwrap();
    assert_eq!(server.lines(), [format!("GET {path}")]);
}

#[tokio::test(start_paused = true)]
async fn answers_come_whole_whatever_their_status_and_headers() {
    let step = answer(307, "moved").header("location", b"http://caf\xe9/".as_slice());
    let server = Server::start([step]).await;
    let answer = client().call(get(&server, "/"), 5).await.unwrap();
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.headers()["location"].as_bytes(), b"http://caf\xe9/");
    assert_eq!(answer.body(), "moved");
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_apart() {
    assert_eq!(class(Step::Reset).await, ErrorClass::Closed);
    assert_eq!(class(Step::Close).await, ErrorClass::Closed);
    assert_eq!(class(Step::CutShort).await, ErrorClass::Closed);
    assert_eq!(class(Step::Hang).await, ErrorClass::Timeout);
    let long = answer(200, &"x".repeat(1001));
    assert_eq!(class(long).await, ErrorClass::TooLarge);

    let nowhere = client().call(get(&Server::nowhere(), "/"), 0).await;
    let error = nowhere.unwrap_err();
    assert_eq!(error.class, ErrorClass::Connect);
    assert!(error.message.contains("refused"), "{error}");

    let unknown = Request::get("http://no-such-host.invalid/").body(empty());
    let error = client().call(unknown.unwrap(), 0).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Connect);
}

#[tokio::test(start_paused = true)]
async fn the_whole_call_has_a_bound() {
    let server = Server::start([Step::Hang]).await;
    let limit = Duration::from_secs(2);
    let called = client().call_within(limit, get(&server, "/"), 0).await;
    assert_eq!(called.unwrap_err().class, ErrorClass::Timeout);
}

#[tokio::test(start_paused = true)]
async fn slow_progress_is_no_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await.unwrap();
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" {
            tokio::time::sleep(Duration::from_secs(8)).await;
            socket.write_all(&[*byte]).await.unwrap();
        }
    });
    let started = Instant::now();
    let request = Request::get(uri).body(empty()).unwrap();
    client().call(request, 0).await.unwrap();
    assert!(started.elapsed() > Duration::from_secs(200));
}

/// Moving this much takes real time, which a paused clock would jump.
#[tokio::test]
async fn a_slow_taker_is_no_silence() {
    // Nothing is read for longer than the idle timeout, but bytes go out all the while.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let size = 64 * 1024 * 1024;
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut taken = 0;
        let mut buffer = vec![0; 2 * 1024 * 1024];
        while taken < size {
            tokio::time::sleep(Duration::from_millis(50)).await;
            taken += socket.read(&mut buffer).await.unwrap();
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        socket.write_all(answer).await.unwrap();
    });
    let idle_timeout = Duration::from_secs(1);
    let client = Client::new(&Options {
        idle_timeout,
        ..options()
    });
    let chunks = vec![Bytes::from(vec![7; 65536]); size / 65536];
    let request = Request::put(uri)
        .header("content-length", size)
        .body(streamed(futures::stream::iter(chunks.into_iter().map(Ok))))
        .unwrap();
    let started = Instant::now();
    client.unwrap().call(request, 0).await.unwrap();
    assert!(started.elapsed() > idle_timeout, "{:?}", started.elapsed());
}

fn pem_file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

/// With bounds that no busy machine reaches: the handshakes here take real time.
fn trusting(ca_file: Option<&std::path::Path>) -> Result<Client, SetupError> {
    Client::new(&Options {
        connect_timeout: Duration::from_secs(120),
        idle_timeout: Duration::from_secs(120),
        ca_file: ca_file.map(Into::into),
        ..options()
    })
}

#[test]
fn an_unusable_ca_file_is_an_error() {
    let missing = trusting(Some("/no/such/file.pem".as_ref())).unwrap_err();
    assert!(matches!(missing, SetupError::ReadCa { .. }), "{missing}");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for content in ["", "no certificate", broken] {
        let file = pem_file(content);
        let error = trusting(Some(file.path())).unwrap_err();
        assert!(matches!(error, SetupError::ParseCa { .. }), "{error}");
    }
}

/// Certificate and key, in PEM. Of two with the same subject OpenSSL would only try one.
fn self_signed(subject: &str) -> (String, String) {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, subject);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn the_ca_file_is_trusted_and_nothing_else_is() {
    let (pem, key) = self_signed("mine");
    let (other, _) = self_signed("other");
    let identity = native_tls::Identity::from_pkcs8(pem.as_bytes(), key.as_bytes()).unwrap();
    let acceptor = native_tls::TlsAcceptor::new(identity).unwrap();
    let acceptor = tokio_native_tls::TlsAcceptor::from(acceptor);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!(
        "https://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut socket) = acceptor.accept(socket).await else {
                continue;
            };
            let mut taken = vec![0; 1024];
            let _ = socket.read(&mut taken).await.unwrap();
            let answer = b"HTTP/1.1 204 Done\r\n\r\n";
            socket.write_all(answer).await.unwrap();
        }
    });
    let call = async |client: Client| {
        let request = Request::get(&uri).body(empty()).unwrap();
        client.call(request, 0).await
    };
    // Two certificates in one file: both count.
    let bundle = pem_file(&format!("{other}{pem}"));
    let answer = call(trusting(Some(bundle.path())).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 204);

    let wrong = pem_file(&other);
    for client in [
        trusting(None).unwrap(),
        trusting(Some(wrong.path())).unwrap(),
    ] {
        let error = call(client).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Tls, "{error}");
        assert!(error.message.contains("certificate"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}/", listener.local_addr().unwrap());
    let _keep = tokio::spawn(async move {
        let connection = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(connection);
    });
    let started = Instant::now();
    let request = Request::get(uri).body(empty()).unwrap();
    let error = client().call(request, 0).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Timeout, "{error}");
    assert!(started.elapsed() <= Duration::from_secs(4));
}
