//! What a process uses, as the kernel counts it.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A process to be asked; all its threads count, also those that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pid: u32,
}

impl Usage {
    /// The usage of the process with this id.
    pub fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// Memory it occupies now, in bytes.
    pub fn rss_bytes(&self) -> io::Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory it has occupied, in bytes: ever, or since [`Usage::forget_peak`].
    pub fn peak_rss_bytes(&self) -> io::Result<u64> {
        self.memory("VmHWM:")
    }

    /// Lets the peak begin again at what it occupies now. The process must be this user's.
    pub fn forget_peak(&self) -> io::Result<()> {
        // https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html
        fs::write(self.file("clear_refs"), "5")
    }

    /// CPU seconds it has spent, in user mode and in the kernel, to a hundredth.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(self.file("stat"))?;
        // The second field, the name, may contain spaces; utime and stime are the 14th and 15th.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        // USER_HZ is 100 on every architecture that matters.
        Ok(ticks as f64 / 100.0)
    }

    /// `Key:   123 kB` in the process's status.
    fn memory(&self, key: &str) -> io::Result<u64> {
        let status = fs::read_to_string(self.file("status"))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other(format!("no {key} for process {}", self.pid)))
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_remembered_until_it_is_forgotten() {
        const LEN: usize = 64 << 20;
        let own = Usage::of(std::process::id());
        // Unseen, the allocation would be left out.
        drop(std::hint::black_box(vec![1_u8; LEN]));
        let peak = own.peak_rss_bytes().unwrap();
        assert!(peak > LEN as u64);
        own.forget_peak().unwrap();
        assert!(own.peak_rss_bytes().unwrap() < peak);
        assert!(own.cpu_seconds().unwrap() < 1000.0);
    }
}
