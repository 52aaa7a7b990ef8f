use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder as Client, SendRequest};
use hyper::server::conn::http1::Builder as Server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};

use super::Shared;
use super::answer::{self, AnyBody, Broken};
use super::journal::Record;
use super::meter::{End, Metered, Pace, Shape};
use super::rule::Fault;

type Answer = Result<Response<AnyBody>, Broken>;

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // Errors here are the client's, gone before it was accepted.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Only costs speed.
    let _ = stream.set_nodelay(true);
    let Ok((stream, socket)) = second_handle(stream) else {
        return;
    };
    let shape = *shared.shape.lock().expect("shape poisoned");
    let connection = Arc::new(Connection {
        shared,
        socket,
        upstream: Mutex::new(None),
        shape,
        up: Pace::new(shape),
        down: Pace::new(shape),
    });
    let service = service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move { connection.handle(request).await }
    });
    // It ends with an error whenever a fault says so.
    let _ = Server::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// hyper owns the stream; resets and bytes that are no HTTP need a handle of our own.
fn second_handle(stream: TcpStream) -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    let stream = stream.into_std()?;
    let socket = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, socket))
}

/// A client's connection and the server's connection behind it.
struct Connection {
    shared: Arc<Shared>,
    socket: std::net::TcpStream,
    upstream: Mutex<Option<SendRequest<Metered<Incoming>>>>,
    shape: Shape,
    up: Pace,
    down: Pace,
}

impl Connection {
    async fn handle(&self, request: Request<Incoming>) -> Answer {
        let target = match request.uri().path_and_query() {
            Some(target) => target.to_string(),
            None => request.uri().to_string(),
        };
        let (method, headers) = (request.method(), request.headers());
        let operation = self
            .shared
            .dialect
            .operation(method, request.uri(), headers);
        let fault = self.shared.rules.pick(&operation, method, &target);
        let record = Record {
            operation,
            method: method.to_string(),
            target,
            received: 0,
            fault: fault.as_ref().map(|fault| format!("{fault:?}")),
            status: None,
            finished: false,
        };
        // Subscribed before the arrival is told, so that a release after it always counts.
        let releases = self.shared.rules.releases();
        let (number, received) = self.shared.journal.arrive(record);
        let shared = Arc::clone(&self.shared);
        let end = End(Box::new(move || shared.journal.finish(number)));
        let request = request.map(|body| Metered::new(body, received, self.up.clone()));

        if !self.shape.latency.is_zero() {
            tokio::time::sleep(self.shape.latency).await;
        }
        let response = match fault {
            None => self.forward(request).await,
            Some(fault) => self.misbehave(fault, request, releases).await,
        }?;
        self.shared
            .journal
            .answer(number, response.status().as_u16());
        // The call ends with the answer's last byte.
        Ok(response.map(|body| {
            let counted = Arc::default();
            let body = Metered::new(body, counted, self.down.clone());
            body.on_end(end).boxed_unsync()
        }))
    }

    async fn misbehave(
        &self,
        fault: Fault,
        mut request: Request<Metered<Incoming>>,
        releases: watch::Receiver<u64>,
    ) -> Answer {
        match fault {
            Fault::Status { status, code } => {
                read_all(request).await?;
                Ok(answer::s3_error(status, &code))
            }
            Fault::EarlyStatus { status, code } => Ok(answer::s3_error(status, &code)),
            Fault::StatusAfter { status, code } => {
                self.effect(request).await?;
                Ok(answer::s3_error(status, &code))
            }
            Fault::OkWithErrorBody { code, effect } => {
                self.effect_if(effect, request).await?;
                Ok(answer::s3_error(200, &code))
            }
            Fault::OkEmptyBody => {
                self.effect(request).await?;
                Ok(Response::new(answer::body(Bytes::new())))
            }
            Fault::CutAnswer => {
                self.effect(request).await?;
                self.reset()
            }
            Fault::CutBody(bytes) => {
                let response = self.forward(request).await?;
                let pace = Pace::new(Shape::default());
                let cut = |body| Metered::new(body, Arc::default(), pace).limit(Some(bytes));
                Ok(response.map(|body| cut(body).boxed_unsync()))
            }
            Fault::ResetAfter(bytes) => {
                let mut left = bytes;
                while left > 0 {
                    let Some(frame) = request.body_mut().frame().await else {
                        break;
                    };
                    let len = frame?.data_ref().map_or(0, |data| data.len() as u64);
                    left = left.saturating_sub(len);
                }
                self.reset()
            }
            Fault::Hang { effect } => {
                self.effect_if(effect, request).await?;
                released(releases).await;
                Err(Broken::new("released"))
            }
            Fault::HangBody => {
                released(releases).await;
                Err(Broken::new("released"))
            }
            Fault::Delay(duration) => {
                tokio::time::sleep(duration).await;
                self.forward(request).await
            }
            Fault::NonAsciiHeader => {
                let mut response = self.forward(request).await?;
                let headers = response.headers_mut();
                headers.insert("x-amz-meta-injected", answer::non_ascii());
                Ok(response)
            }
            Fault::Garbage => {
                self.effect(request).await?;
                (&self.socket).write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")?;
                Err(Broken::new("garbage sent"))
            }
            Fault::HoldBefore(gate) => {
                gate.pass().await;
                self.forward(request).await
            }
            Fault::HoldAfter(gate) => {
                let response = self.effect(request).await?;
                gate.pass().await;
                Ok(response)
            }
            Fault::Answer {
                status,
                headers,
                body,
            } => {
                read_all(request).await?;
                Ok(answer::custom(status, &headers, body))
            }
        }
    }

    /// Lets the server do as it is told, to its answer's last byte.
    async fn effect(&self, request: Request<Metered<Incoming>>) -> Answer {
        let (head, body) = self.forward(request).await?.into_parts();
        let content = body.collect().await?.to_bytes();
        Ok(Response::from_parts(head, answer::body(content)))
    }

    async fn effect_if(
        &self,
        effect: bool,
        request: Request<Metered<Incoming>>,
    ) -> Result<(), Broken> {
        if effect {
            self.effect(request).await.map(|_| ())
        } else {
            read_all(request).await
        }
    }

    async fn forward(&self, request: Request<Metered<Incoming>>) -> Answer {
        let mut upstream = self.upstream.lock().await;
        let mut sender = match upstream.take() {
            Some(mut sender) => match sender.ready().await {
                Ok(()) => sender,
                Err(_) => self.connect().await?,
            },
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        *upstream = Some(sender);
        Ok(response.map(|body| body.map_err(Broken::from).boxed_unsync()))
    }

    async fn connect(&self) -> Result<SendRequest<Metered<Incoming>>, Broken> {
        let address = *self.shared.upstream.lock().expect("upstream poisoned");
        let stream = TcpStream::connect(address).await?;
        // Only costs speed.
        let _ = stream.set_nodelay(true);
        let mut client = Client::new();
        client.preserve_header_case(true);
        let (sender, connection) = client.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Ends the connection with a reset instead of an orderly end.
    fn reset(&self) -> Answer {
        let socket = self.socket.try_clone()?;
        TcpStream::from_std(socket)?.set_zero_linger()?;
        Err(Broken::new("reset on purpose"))
    }
}

async fn released(mut releases: watch::Receiver<u64>) {
    // The sender lives as long as the proxy, which drops this future when it stops.
    let _ = releases.changed().await;
}

async fn read_all(mut request: Request<Metered<Incoming>>) -> Result<(), Broken> {
    while let Some(frame) = request.body_mut().frame().await {
        frame?;
    }
    Ok(())
}
