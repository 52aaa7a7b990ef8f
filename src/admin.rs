//! The admin listener: metrics for Prometheus, and health.

use crate::health::Health;
use crate::metrics::Metrics;
use crate::upload::Admission;
use async_trait::async_trait;
use http::{Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora_prometheus::PrometheusHttpApp;
use std::sync::Arc;

pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub admission: Arc<Admission>,
    pub health: Arc<Health>,
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
            "/livez" => answer(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => {
                let (ready, said) = self.health.readiness();
                let status = match ready {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                };
                answer(status, "application/json", &format!("{said}\n"))
            }
            _ => answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "here are /metrics, /livez and /readyz\n",
            ),
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn answer(status: StatusCode, content: &'static str, body: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(body.as_bytes().to_vec());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content),
    );
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, body.len().into());
    response
}
