//! What the user sees while it runs, all of it on stderr.

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a long push says something where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
const LABEL_WIDTH: usize = 28;

#[derive(Clone)]
pub struct Progress(Style);

#[derive(Clone)]
enum Style {
    Bars(MultiProgress),
    Lines,
    Quiet,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        Self(if quiet {
            Style::Quiet
        } else if std::io::stderr().is_terminal() {
            Style::Bars(MultiProgress::with_draw_target(
                ProgressDrawTarget::stderr_with_hz(10),
            ))
        } else {
            Style::Lines
        })
    }

    /// Says what is good to know.
    pub fn note(&self, line: &str) {
        match &self.0 {
            Style::Bars(bars) => bars.suspend(|| print(line)),
            Style::Lines => print(line),
            Style::Quiet => (),
        }
    }

    /// Says what must be known.
    pub fn warn(&self, line: &str) {
        match &self.0 {
            Style::Bars(bars) => bars.suspend(|| print(line)),
            Style::Lines | Style::Quiet => print(line),
        }
    }

    pub fn task(&self, label: &str, len: u64) -> Task {
        let bar = match &self.0 {
            Style::Bars(bars) => bars.add(ProgressBar::new(len)),
            Style::Lines | Style::Quiet => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template(
            "{prefix:28} {msg:8} {bar:24} {binary_bytes:>11}/{binary_total_bytes:11} \
             {binary_bytes_per_sec:>13} {eta:>4}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(shorten(label));
        Task(Arc::new(Inner {
            bar,
            progress: self.clone(),
            label: label.to_owned(),
            len,
            done: AtomicU64::new(0),
            phase: Mutex::new(Phase {
                name: "",
                next_line: Instant::now() + LINE_EVERY,
            }),
        }))
    }
}

/// One blob's progress. Clones are the same task.
#[derive(Clone)]
pub struct Task(Arc<Inner>);

struct Inner {
    bar: ProgressBar,
    progress: Progress,
    label: String,
    len: u64,
    done: AtomicU64,
    phase: Mutex<Phase>,
}

struct Phase {
    name: &'static str,
    next_line: Instant,
}

impl Task {
    /// Begins a phase.
    pub fn start(&self, name: &'static str) {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) = Phase {
            name,
            next_line: Instant::now() + LINE_EVERY,
        };
        self.0.bar.set_message(name);
        self.restart();
    }

    pub fn restart(&self) {
        self.0.done.store(0, Ordering::Relaxed);
        self.0.bar.reset();
    }

    pub fn advance(&self, bytes: u64) {
        let done = self.0.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.0.bar.set_position(done);
        if !matches!(self.0.progress.0, Style::Lines) {
            return;
        }
        let mut phase = self.0.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() < phase.next_line {
            return;
        }
        phase.next_line = Instant::now() + LINE_EVERY;
        print(&format!(
            "{} {}: {} of {}",
            phase.name,
            self.0.label,
            size(done),
            size(self.0.len)
        ));
    }

    /// Takes the bar away, or says in a line how it went. On a terminal the summary follows on the
    /// same screen.
    pub fn finish(&self, outcome: &str) {
        self.0.bar.finish_and_clear();
        match &self.0.progress.0 {
            Style::Bars(bars) => bars.remove(&self.0.bar),
            Style::Lines => print(&format!("{outcome}: {}", self.0.label)),
            Style::Quiet => (),
        }
    }
}

pub fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

fn print(line: &str) {
    // Nobody may be listening any more; the push goes on.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Keeps a label's end: files that are pushed together mostly differ there.
fn shorten(label: &str) -> String {
    let len = label.chars().count();
    if len <= LABEL_WIDTH {
        return label.to_owned();
    }
    let tail: String = label.chars().skip(len - LABEL_WIDTH + 1).collect();
    format!("…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortens_long_labels_from_the_left() {
        assert_eq!(shorten("model.bin"), "model.bin");
        let short = shorten(&format!("ä/{}/model-00001.bin", "x".repeat(40)));
        assert_eq!(short.chars().count(), LABEL_WIDTH);
        assert!(short.ends_with("/model-00001.bin"), "{short}");
    }
}
