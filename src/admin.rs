//! The admin listener: metrics for Prometheus, and health.

use crate::metrics::Metrics;
use crate::upload::Admission;
use async_trait::async_trait;
use http::{Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora_prometheus::PrometheusHttpApp;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub admission: Arc<Admission>,
    /// Cancelled once blobgate has been told to stop.
    pub draining: CancellationToken,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        // pingora would keep the connection whatever the client asked for. A scrape is rare.
        session.set_keepalive(None);
        match session.req_header().uri.path() {
            "/metrics" => {
                self.metrics.admission(&self.admission);
                PrometheusHttpApp.response(session).await
            }
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" if self.draining.is_cancelled() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            }
            "/readyz" => text(StatusCode::OK, "ok\n"),
            _ => text(
                StatusCode::NOT_FOUND,
                "here are /metrics, /livez and /readyz\n",
            ),
        }
    }
}

fn text(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(body.as_bytes().to_vec());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, body.len().into());
    response
}
