//! How the process ends: what is told to stop in which order, and what is waited for.

use super::signals::{Signal, Signals};
use super::sockets::Sockets;
use crate::upload::{Aborter, Admission};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long pushes that were stopped may take to tell their clients.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long connections without a request may take to close. HTTP/2 ends with an exchange, and its
/// last answers may still be on their way.
const CLOSING: Duration = Duration::from_secs(1);

/// How long a predecessor stays at least, for connections that were accepted just before the
/// listener went: they are known only once their TLS handshake is done.
const JUST_ACCEPTED: Duration = Duration::from_secs(1);

/// Why, and how fast, to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// What requests in flight have to finish.
    grace: Duration,
    /// A successor has the listeners.
    succeeded: bool,
}

/// A listener in service.
pub struct Listening {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listening {
    pub fn start<S: Future<Output = ()> + Send + 'static>(
        serve: impl FnOnce(watch::Receiver<bool>) -> S,
    ) -> Self {
        let (stop, watch) = watch::channel(false);
        Self {
            stop,
            task: tokio::spawn(serve(watch)),
        }
    }

    /// Accepts nothing more. Connections that are open stay until they end by themselves.
    async fn close(self) {
        // Fails only where nobody listens any more.
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Everything that has to end, one after the other.
pub struct Running {
    pub sockets: Sockets,
    pub front: Listening,
    pub back: Option<Listening>,
    /// Cancelled once it is clear that the process will end.
    pub draining: CancellationToken,
    /// The front's.
    pub connections: TaskTracker,
    /// All of them, forwarded ones and pushes, and connections that owe their first.
    pub requests: TaskTracker,
    pub pushes: TaskTracker,
    /// Cancelled when pushes in flight must end.
    pub stop: CancellationToken,
    pub admission: Arc<Admission>,
    pub aborter: Aborter,
}

impl Running {
    /// Waits for the signal that ends the process.
    pub async fn until_told(
        &self,
        signals: &mut Signals,
        grace: Duration,
        upgrade_socket: Option<&Path>,
    ) -> Told {
        let mut signal = signals.next().await;
        loop {
            let succeeded = match signal {
                Signal::Terminate => false,
                Signal::Interrupt => {
                    return Told {
                        grace: Duration::ZERO,
                        succeeded: false,
                    };
                }
                Signal::HandOver => tokio::select! {
                    handed_over = self.hand_over(upgrade_socket) => match handed_over {
                        Ok(()) => true,
                        Err(reason) => {
                            log::error!(
                                "the listeners were not handed over, so serving goes on: {reason}"
                            );
                            signal = signals.next().await;
                            continue;
                        }
                    },
                    // Whatever it is, it is meant to replace the hand-over.
                    next = signals.next() => {
                        signal = next;
                        continue;
                    }
                },
            };
            return Told { grace, succeeded };
        }
    }

    async fn hand_over(&self, path: Option<&Path>) -> Result<(), String> {
        let path = path.ok_or("upgrade_socket is not configured")?;
        let handed_over = self.sockets.hand_over(path).await;
        handed_over.map_err(|error| error.to_string())?;
        log::info!("the listeners were handed over at {}", path.display());
        Ok(())
    }

    /// Ends everything; returns when nothing is left that must not be lost.
    pub async fn end(self, told: Told, signals: &mut Signals) {
        let Told { grace, succeeded } = told;
        let mut back = self.back;
        drop(self.sockets);
        self.draining.cancel();
        self.front.close().await;
        if succeeded && let Some(back) = back.take() {
            // Half of the scrapes and health checks would be answered by the wrong process.
            back.close().await;
        }
        self.requests.close();
        self.connections.close();
        log::info!(
            "stopping: {} request(s) in flight have {grace:?} to finish",
            self.requests.len()
        );
        let finished = async {
            if succeeded {
                tokio::time::sleep(JUST_ACCEPTED).await;
            }
            self.requests.wait().await;
            // Bounded, as a client need not take part in the end of its connection.
            let _ = tokio::time::timeout(CLOSING, self.connections.wait()).await;
        };
        tokio::select! {
            // Nothing to wait for is no reason to say that the time is over.
            biased;
            () = finished => {}
            () = tokio::time::sleep(grace) => {
                log::warn!("{} request(s) did not finish in time and are ended", self.requests.len());
            }
            _ = signals.next() => log::warn!("told to stop again: ending what is in flight"),
        }

        // From here on no upload goes on; each that is dropped starts its abort. Forwarded requests
        // are cut off with the process: there is nothing to add to what the registry said.
        self.stop.cancel();
        self.admission.close();
        self.pushes.close();
        let _ = tokio::time::timeout(FAREWELL, self.pushes.wait()).await;
        self.aborter.finish().await;
        if let Some(back) = back {
            back.close().await;
        }
    }
}
