//! The wiring, in the order data flows, and the process's life from bind to exit.

use crate::admin::Admin;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::net;
use crate::proxy::{Door, Forwarding, ForwardingError, Gate, Pushes, Timing};
use crate::store::BlobStore;
use crate::store::s3::{self, S3Store};
use crate::upload::{Aborter, Admission, Limits, Pace, Uploader};
use crate::upstream::Upstream;
use pingora::apps::ServerApp;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// How long requests may take to notice that they must end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why blobgate could not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        key: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot use the certificate and key of listen.tls: {0}")]
    Tls(String),
    #[error("cannot set up the connection to the bucket: {0}")]
    Store(#[from] s3::SetupError),
    #[error("cannot set up the connection to the upstream: {0}")]
    Upstream(#[from] net::SetupError),
    #[error(transparent)]
    Forwarding(#[from] ForwardingError),
    #[error("cannot register the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
}

/// Runs blobgate until it is told to stop.
///
/// # Errors
/// When it cannot start; once it serves, nothing but a signal ends it.
pub fn run(config: Config) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .thread_name("blobgate")
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let outcome = runtime.block_on(serve(config));
    // What still runs has been given its time.
    runtime.shutdown_background();
    outcome
}

async fn serve(config: Config) -> Result<(), RunError> {
    // Ports first: one that is taken should be said before anything else is tried.
    let front = Socket::bind("listen.address", config.listen.address)?;
    let back = config
        .admin
        .address
        .map(|address| Socket::bind("admin.address", address))
        .transpose()?;
    let mut signals = Signals::new().map_err(RunError::Runtime)?;

    let metrics = Arc::new(Metrics::new(prometheus::default_registry())?);
    let store: Arc<dyn BlobStore> =
        Arc::new(S3Store::new(&config.bucket, Arc::clone(&metrics) as _)?);
    let admission = Arc::new(Admission::new(
        config.upload.max_streaming,
        config.upload.memory_budget,
        config.upload.admission_timeout,
    ));
    let aborter = Aborter::new(Arc::clone(&store), Arc::clone(&metrics));
    let uploader = Uploader::new(
        Arc::clone(&store),
        Arc::clone(&admission),
        aborter.clone(),
        Limits {
            part_size: config.upload.part_size,
            max_blob_size: config.upload.max_blob_size,
            part_concurrency: config.upload.part_concurrency,
        },
    );
    let forwarding = Arc::new(Forwarding::new(
        &config.upstream,
        config.listen.trust_forwarded,
    )?);
    let stop = CancellationToken::new();
    let draining = CancellationToken::new();
    let requests = TaskTracker::new();
    let gate = Gate {
        pushes: Pushes {
            store: Arc::clone(&store),
            uploader,
            upstream: Upstream::new(&config.upstream)?,
            forwarding: Arc::clone(&forwarding),
            metrics: Arc::clone(&metrics),
            pace: Pace {
                idle_timeout: config.upload.idle_timeout,
                min_rate: config.upload.min_rate,
                min_rate_window: config.upload.min_rate_window,
            },
            question_timeout: config.upstream.probe_timeout,
            stop: stop.clone(),
        },
        forwarding,
        metrics: Arc::clone(&metrics),
        timing: Timing {
            keepalive: config.listen.keepalive_timeout,
            idle: config.upstream.idle_timeout,
        },
        requests: requests.clone(),
    };
    let conf = ServerConf {
        threads: config.threads,
        ..ServerConf::default()
    };
    let door = Door::new(
        http_proxy(&Arc::new(conf), gate),
        config.listen.max_connections,
        config.listen.header_timeout,
        config.listen.keepalive_timeout,
    );

    let (shutdown, watch) = watch::channel(false);
    let scheme = if config.listen.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let tls = config.listen.tls.as_ref().map(tls_settings).transpose()?;
    let front_address = front.address;
    let front = front.serve("blobgate", door, tls, watch.clone());
    log::info!("listening on {scheme}://{front_address}");
    let back = back.map(|socket| {
        let address = socket.address;
        let admin = Admin {
            metrics: Arc::clone(&metrics),
            admission: Arc::clone(&admission),
            draining: draining.clone(),
        };
        let task = socket.serve("admin", admin, None, watch);
        log::info!("admin listening on http://{address}");
        task
    });
    let check = tokio::spawn(check_bucket(Arc::clone(&store)));

    let grace = match signals.next().await {
        Signal::Terminate => config.grace_period,
        Signal::Interrupt => Duration::ZERO,
    };
    draining.cancel();
    // Closes the listeners and the idle connections.
    let _ = shutdown.send(true);
    let _ = front.await;
    requests.close();
    log::info!(
        "stopping: {} request(s) in flight have {grace:?} to finish",
        requests.len()
    );
    tokio::select! {
        () = requests.wait() => {}
        () = tokio::time::sleep(grace) => {
            log::warn!("{} request(s) did not finish in time and are ended", requests.len());
        }
        _ = signals.next() => log::warn!("told to stop again: ending what is in flight"),
    }

    // From here on no upload goes on; each that is dropped starts its abort.
    stop.cancel();
    admission.close();
    let _ = tokio::time::timeout(FAREWELL, requests.wait()).await;
    aborter.idle().await;
    check.abort();
    if let Some(back) = back {
        back.abort();
    }
    log::info!("stopped");
    Ok(())
}

/// Says at start-up what the first push would otherwise find out.
async fn check_bucket(store: Arc<dyn BlobStore>) {
    match store.check().await {
        Ok(()) => log::info!("the bucket answers"),
        Err(error) => log::error!("the bucket cannot be used, so pushes will fail: {error}"),
    }
}

/// A bound socket, so that its address is known and a taken port is an error before anything runs.
struct Socket {
    address: SocketAddr,
    fds: ListenFds,
}

impl Socket {
    fn bind(key: &'static str, address: SocketAddr) -> Result<Self, RunError> {
        let bind = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            // A restart must not wait for the last process's connections to be forgotten.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)?.into_std()
        };
        let failed = |source| RunError::Listen {
            key,
            address,
            source,
        };
        let listener = bind().map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut fds = Fds::new();
        fds.add(address.to_string(), listener.into_raw_fd());
        Ok(Self {
            address,
            fds: Arc::new(parking_lot::Mutex::new(fds)),
        })
    }

    /// Accepts connections until the watch says to stop.
    fn serve<A>(
        self,
        name: &str,
        app: A,
        tls: Option<TlsSettings>,
        shutdown: watch::Receiver<bool>,
    ) -> JoinHandle<()>
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let mut service = Service::new(name.to_owned(), app);
        let address = self.address.to_string();
        match tls {
            Some(tls) => service.add_tls_with_settings(&address, None, tls),
            None => service.add_tcp(&address),
        }
        tokio::spawn(async move { service.start_service(Some(self.fds), shutdown, 1).await })
    }
}

fn tls_settings(tls: &crate::config::Tls) -> Result<TlsSettings, RunError> {
    let failed = |error: String| RunError::Tls(error);
    let path = |path: &std::path::Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| failed(format!("{} is not valid UTF-8", path.display())))
    };
    let mut settings = TlsSettings::intermediate(&path(&tls.certificate)?, &path(&tls.key)?)
        .map_err(|error| failed(error.to_string()))?;
    settings.enable_h2();
    Ok(settings)
}

enum Signal {
    Terminate,
    Interrupt,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}
