//! Each fault does what it says: to the client, and to the server behind it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Dialect, Fault, FaultProxy, Gate, Rule, Shape};
use blobgate_testkit::http::{RawConnection, RawResponse};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;

/// What the server saw: target, `Host`, body length.
type Seen = Arc<Mutex<Vec<(String, String, usize)>>>;

async fn server() -> (SocketAddr, Seen) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let all = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&all);
            let service = service_fn(move |request: Request<Incoming>| {
                let seen = Arc::clone(&seen);
                async move {
                    let target = request.uri().to_string();
                    let host = request.headers()["host"].to_str().unwrap().to_owned();
                    if let Ok(body) = request.into_body().collect().await {
                        let len = body.to_bytes().len();
                        seen.lock().unwrap().push((target, host, len));
                    }
                    let body = Full::new(Bytes::from_static(b"done as told"));
                    Ok::<_, Infallible>(
                        Response::builder()
                            .header("X-Odd-Case", "1")
                            .body(body)
                            .unwrap(),
                    )
                }
            });
            let serve = hyper::server::conn::http1::Builder::new()
                .title_case_headers(true)
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(serve);
        }
    });
    (address, seen)
}

const PART: &str = "/registry/a/b?partNumber=1&uploadId=u";

fn put(target: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head =
        format!("PUT {target} HTTP/1.1\r\nHost: s3.example\r\nContent-Length: {len}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

struct Scene {
    proxy: FaultProxy,
    seen: Seen,
}

impl Scene {
    async fn new() -> Self {
        let (address, seen) = server().await;
        let proxy = FaultProxy::start(address, Dialect::S3).unwrap();
        Self { proxy, seen }
    }

    /// One UploadPart with this fault, on a connection of its own.
    async fn part(&self, fault: Fault) -> std::io::Result<RawResponse> {
        self.proxy.clear();
        self.proxy.add(Rule::on("UploadPart", fault));
        let mut client = RawConnection::open(self.proxy.address()).await?;
        client.send(put(PART, &[7; 100_000])).await?;
        client.response().await
    }

    fn effects(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rules_bytes_pass_unchanged() {
    let scene = Scene::new().await;
    let mut client = RawConnection::open(scene.proxy.address()).await.unwrap();
    let odd = "/registry//a/../b%2Fc%3a?x=%20&y=+";
    for size in [0, 10_000_000] {
        let body = Blob::new(1, size).bytes();
        client.send(put(odd, &body)).await.unwrap();
        let answer = client.response().await.unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "done as told")
        );
        let odd_case = |(name, _): &(String, Vec<u8>)| name == "X-Odd-Case";
        assert!(answer.headers.iter().any(odd_case), "{answer:?}");
        let seen = scene.seen.lock().unwrap().pop().unwrap();
        assert_eq!(
            seen,
            (odd.to_owned(), "s3.example".to_owned(), size as usize)
        );
    }
    assert_eq!(scene.proxy.calls()["PutObject"], 2);
    let record = scene.proxy.records().pop().unwrap();
    assert_eq!((record.received, record.status), (10_000_000, Some(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_effect() {
    let scene = Scene::new().await;
    let code = || "SlowDown".to_owned();
    let answer = scene
        .part(Fault::Status {
            status: 503,
            code: code(),
        })
        .await
        .unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("<Code>SlowDown</Code>"));

    let fault = Fault::OkWithErrorBody {
        code: code(),
        effect: false,
    };
    let answer = scene.part(fault).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("<Error><Code>SlowDown</Code>"));

    let fault = Fault::Answer {
        status: 401,
        headers: vec![("WWW-Authenticate".into(), "Bearer".into())],
        body: Bytes::from_static(b"{}"),
    };
    let answer = scene.part(fault).await.unwrap();
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (401, Some("Bearer"))
    );

    assert!(scene.part(Fault::ResetAfter(1000)).await.is_err());
    assert_eq!(scene.effects(), 0);

    // Answered before the body was sent.
    scene.proxy.clear();
    scene.proxy.add(Rule::new(Fault::EarlyStatus {
        status: 503,
        code: code(),
    }));
    let mut client = RawConnection::open(scene.proxy.address()).await.unwrap();
    client.send(&put(PART, &[7; 1000])[..100]).await.unwrap();
    assert_eq!(client.response().await.unwrap().status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_after_the_effect() {
    let scene = Scene::new().await;
    let code = || "InternalError".to_owned();
    let answer = scene
        .part(Fault::StatusAfter {
            status: 500,
            code: code(),
        })
        .await;
    assert_eq!(answer.unwrap().status, 500);
    assert_eq!(scene.effects(), 1);

    let fault = Fault::OkWithErrorBody {
        code: code(),
        effect: true,
    };
    assert!(scene.part(fault).await.unwrap().text().contains("<Error>"));
    assert_eq!(scene.effects(), 2);

    let answer = scene.part(Fault::OkEmptyBody).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(scene.effects(), 3);

    let cut = scene.part(Fault::CutAnswer).await.unwrap_err();
    assert_eq!(cut.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(scene.effects(), 4);

    let garbage = scene.part(Fault::Garbage).await.unwrap_err();
    assert!(garbage.to_string().contains("invalid"), "{garbage}");
    assert_eq!(scene.effects(), 5);

    let answer = scene.part(Fault::NonAsciiHeader).await.unwrap();
    let odd = |(_, value): &(String, Vec<u8>)| !value.is_ascii();
    assert!(answer.headers.iter().any(odd), "{answer:?}");

    assert!(scene.part(Fault::CutBody(4)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_pick_calls_by_number_method_and_target() {
    let scene = Scene::new().await;
    let status = |status| Fault::Status {
        status,
        code: "Injected".into(),
    };
    scene.proxy.add(
        Rule::on("UploadPart", status(500))
            .target("partNumber=2")
            .nth(2),
    );
    scene.proxy.add(
        Rule::new(status(501))
            .method(http::Method::PUT)
            .calls(4..=5),
    );
    let mut client = RawConnection::open(scene.proxy.address()).await.unwrap();
    let mut statuses = Vec::new();
    for part in [2, 1, 2, 2, 2, 2] {
        let target = PART.replace("Number=1", &format!("Number={part}"));
        client.send(put(&target, b"x")).await.unwrap();
        statuses.push(client.response().await.unwrap().status);
    }
    assert_eq!(statuses, [200, 200, 500, 501, 501, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_held_until_the_test_lets_go() {
    let scene = Scene::new().await;
    for (after, effects) in [(false, 0), (true, 2)] {
        let gate = Gate::new();
        let fault = if after {
            Fault::HoldAfter(gate.clone())
        } else {
            Fault::HoldBefore(gate.clone())
        };
        scene.proxy.clear();
        scene.proxy.add(Rule::on("UploadPart", fault));
        let mut client = RawConnection::open(scene.proxy.address()).await.unwrap();
        client.send(put(PART, b"x")).await.unwrap();
        gate.reached(1).await;
        assert_eq!(scene.effects(), effects);
        gate.release();
        assert_eq!(client.response().await.unwrap().status, 200);
    }
    scene.proxy.arrived("UploadPart", 2).await;
    scene.proxy.finished("UploadPart", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_calls_end_with_a_release() {
    let scene = Scene::new().await;
    for (n, fault) in [(1, Fault::Hang { effect: true }), (2, Fault::HangBody)] {
        scene.proxy.clear();
        scene.proxy.add(Rule::on("UploadPart", fault));
        let mut client = RawConnection::open(scene.proxy.address()).await.unwrap();
        client.send(put(PART, b"x")).await.unwrap();
        scene.proxy.arrived("UploadPart", n).await;
        scene.proxy.release();
        assert!(client.response().await.is_err());
        assert_eq!(scene.effects(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_call() {
    let scene = Scene::new().await;
    scene.proxy.add(Rule::new(Fault::Hang { effect: false }));
    let mut client = RawConnection::open(scene.proxy.address()).await.unwrap();
    client.send(put(PART, b"x")).await.unwrap();
    scene.proxy.arrived("UploadPart", 1).await;
    drop(client);
    scene.proxy.finished("UploadPart", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shape_limits_latency_and_bandwidth() {
    let scene = Scene::new().await;
    scene.proxy.set_shape(Shape {
        latency: Duration::from_millis(50),
        bytes_per_second: Some(1_000_000),
    });
    let started = Instant::now();
    let answer = scene.part(Fault::Delay(Duration::from_millis(50))).await;
    assert_eq!(answer.unwrap().status, 200);
    assert!(
        started.elapsed() >= Duration::from_millis(200),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(scene.seen.lock().unwrap()[0].2, 100_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_is_a_closed_connection() {
    let scene = Scene::new().await;
    scene.proxy.set_upstream("127.0.0.1:1".parse().unwrap());
    let mut client = RawConnection::open(scene.proxy.address()).await.unwrap();
    client.send(put(PART, b"x")).await.unwrap();
    assert!(client.response().await.is_err());
}
