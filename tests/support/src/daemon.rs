use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

/// Where util-linux keeps the program that lets a child die with its parent.
const SETPRIV: &str = "/usr/bin/setpriv";

/// Variables that change where a program connects to, or what it trusts there. Nothing here may
/// leave the machine, and `docker-registry` refuses to start with `AWS_CA_BUNDLE`.
const HARMFUL: &[&str] = &[
    "AWS_CA_BUNDLE",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// A command for `program` without the variables that harm, in a process group of its own (so that
/// a Ctrl-C reaches only the one who started it), and killed when this process dies.
///
/// Killed means: when the thread dies that spawned it. Spawn it through [`Daemon`], or wait for it
/// on the same thread.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = if Path::new(SETPRIV).exists() {
        let mut command = Command::new(SETPRIV);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    clean_environment(&mut command);
    command.process_group(0);
    command
}

/// Keeps a command from proxies and from other trust than the system's.
pub(crate) fn clean_environment(command: &mut Command) {
    for name in HARMFUL {
        command.env_remove(name);
    }
}

/// A child process that serves until it is told to stop; killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    pid: Pid,
    log: PathBuf,
    /// None once nobody wants them any more.
    lines: Mutex<Option<Receiver<String>>>,
    exit: Arc<(Mutex<Option<ExitStatus>>, Condvar)>,
    /// The same for those who wait asynchronously: closed at the child's end.
    running: watch::Receiver<()>,
}

impl Daemon {
    /// Starts the command with both outputs going to the file `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: PathBuf) -> io::Result<Self> {
        let mut file = File::create(&log)?;
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        command.stdin(std::process::Stdio::null());

        let (started, start) = mpsc::channel();
        let (line_sender, lines) = mpsc::channel();
        let exit = Arc::new((Mutex::new(None), Condvar::new()));
        let exited = Arc::clone(&exit);
        let (run, running) = watch::channel(());
        // The child dies with the thread that spawned it, so that thread stays as long as it.
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let spawned = command.spawn();
                // The command holds the pipe's other end, without which there is no end of file.
                drop(command);
                let mut child = match spawned {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let _ = started.send(Ok(child.id()));
                for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    // A full disk must not stop the child, and nobody may be listening any more.
                    let _ = writeln!(file, "{line}");
                    let _ = line_sender.send(line);
                }
                let status = child.wait().expect("cannot wait for a child");
                *exited.0.lock().expect("exit poisoned") = Some(status);
                exited.1.notify_all();
                drop(run);
            })?;
        let pid = start.recv().expect("the thread answers")?;
        Ok(Self {
            name: name.to_owned(),
            pid: Pid::from_raw(pid.cast_signed()),
            log,
            lines: Mutex::new(Some(lines)),
            exit,
            running,
        })
    }

    /// Reads the child's lines until `find` finds something in one. Fails with the log when the
    /// child ends or the time is over.
    pub(crate) fn find_line<T>(
        &self,
        bound: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> io::Result<T> {
        let deadline = Instant::now() + bound;
        let lines = self.lines.lock().expect("lines poisoned");
        let lines = lines.as_ref().expect("lines are ignored");
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(found) = find(&line) {
                        return Ok(found);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(self.failure("ended before it was ready"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Err(self.failure("did not get ready in time"));
                }
            }
        }
    }

    /// From now on lines only go to the log: kept for [`Daemon::find_line`], a chatty child's would
    /// fill the memory of a long run.
    pub(crate) fn ignore_lines(&self) {
        *self.lines.lock().expect("lines poisoned") = None;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// Everything the child has written so far.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log)
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Sends a signal, unless the child has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let exit = self.exit.0.lock().expect("exit poisoned");
        if exit.is_none() {
            // It may end right now, which is just as well.
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits for the child's end; `None` when it has not come within `bound`.
    pub(crate) fn wait(&self, bound: Duration) -> Option<ExitStatus> {
        let exit = self.exit.0.lock().expect("exit poisoned");
        let waited = self.exit.1.wait_timeout_while(exit, bound, |e| e.is_none());
        *waited.expect("exit poisoned").0
    }

    /// Waits for the child's end, and fails with its log.
    pub(crate) async fn unexpected_end(&self) -> io::Error {
        // Nothing is ever sent: the only change is the end.
        let _ = self.running.clone().changed().await;
        self.failure("ended")
    }

    fn failure(&self, what: &str) -> io::Error {
        let status = match self.wait(Duration::ZERO) {
            Some(status) => format!(" ({status})"),
            None => String::new(),
        };
        let (name, log) = (&self.name, self.log());
        io::Error::other(format!("{name} {what}{status}; its log:\n{log}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        if self.wait(Duration::from_secs(10)).is_none() {
            eprintln!("{} does not die", self.name);
        }
    }
}
