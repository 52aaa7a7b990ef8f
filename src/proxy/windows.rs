use parking_lot::Mutex;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use std::sync::Arc;

/// How much of one body may have come over HTTP/2 and wait to be read, where there is memory for it.
const STREAM_WINDOW: u64 = 1 << 20;

/// HTTP/2's own default, which allows about 3 MB/s at a round trip of 20 ms.
const LEAST_STREAM_WINDOW: u64 = 64 << 10;

/// Requests at once over one connection. RFC 9113 (6.5.2) advises against less, and clients begin
/// with as many before they know of a limit.
const STREAMS: u64 = 100;

/// The same for a connection that comes when the memory is given away: together with the least
/// window, one MiB.
const LEAST_STREAMS: u64 = 16;

/// The memory in which bodies that came over HTTP/2 wait to be read, shared out to connections.
///
/// The protocol lets a client send without being read from, as far as its windows go: a push that
/// waits for a slot lies in memory with its first bytes. A connection's window is as large as all
/// its streams' windows together, since pushes that wait unread would else use it up, and the one
/// they wait for, on the same connection, could not go on. So what a connection may hold is settled
/// when it opens, here.
#[derive(Debug)]
pub struct WindowPool {
    /// Bytes.
    left: Mutex<u64>,
}

/// What one connection may hold. Goes back to the pool when dropped.
#[derive(Debug)]
pub struct Windows {
    pool: Arc<WindowPool>,
    taken: u64,
    streams: u64,
    stream_window: u64,
}

impl WindowPool {
    /// `memory` in bytes.
    pub fn new(memory: u64) -> Arc<Self> {
        Arc::new(Self {
            left: Mutex::new(memory),
        })
    }

    /// A third of what is left, so that one that comes later gets its share too. Where that would
    /// not give every stream the least window, the connection gets fewer streams and takes nothing.
    pub fn share(self: &Arc<Self>) -> Windows {
        let mut left = self.left.lock();
        let stream_window = (*left / 3 / STREAMS).min(STREAM_WINDOW);
        let windows = if stream_window >= LEAST_STREAM_WINDOW {
            Windows {
                pool: Arc::clone(self),
                taken: STREAMS * stream_window,
                streams: STREAMS,
                stream_window,
            }
        } else {
            Windows {
                pool: Arc::clone(self),
                taken: 0,
                streams: LEAST_STREAMS,
                stream_window: LEAST_STREAM_WINDOW,
            }
        };
        *left -= windows.taken;
        windows
    }
}

impl Windows {
    pub fn options(&self) -> H2Options {
        // None is anywhere near 4 GiB.
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let mut options = default_h2_options();
        options.initial_window_size(number(self.stream_window));
        options.initial_connection_window_size(number(self.streams * self.stream_window));
        options.max_concurrent_streams(number(self.streams));
        options
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        *self.pool.left.lock() += self.taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn connections_share_what_there_is_and_give_it_back() {
        let pool = WindowPool::new(256 * MIB);
        let mut shares: Vec<Windows> = (0..100).map(|_| pool.share()).collect();
        let taken: u64 = shares.iter().map(|share| share.taken).sum();
        assert!(taken <= 256 * MIB && *pool.left.lock() == 256 * MIB - taken);
        assert!(shares.is_sorted_by_key(|share| std::cmp::Reverse(share.stream_window)));
        for share in &shares {
            let held = share.streams * share.stream_window;
            assert!(share.stream_window >= LEAST_STREAM_WINDOW);
            assert!(held == share.taken || (held == MIB && share.taken == 0));
        }
        let wide = shares.iter().filter(|share| share.taken > 0).count();
        assert!((5..20).contains(&wide), "{wide}");
        shares.clear();
        assert_eq!(*pool.left.lock(), 256 * MIB);
    }

    #[test]
    fn a_window_is_never_wider_than_serves() {
        let share = WindowPool::new(1 << 40).share();
        assert_eq!((share.streams, share.stream_window), (100, MIB));
    }

    #[test]
    fn no_memory_still_serves() {
        let share = WindowPool::new(0).share();
        assert_eq!((share.streams, share.stream_window), (16, 64 << 10));
    }
}
