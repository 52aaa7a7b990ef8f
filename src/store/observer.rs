use super::{FaultClass, StoreOperation};
use std::time::Duration;

/// Hears of every call on the wire, so that the store needs to know nothing of metrics.
///
/// Called from within the calls themselves: an implementation must not block.
pub trait StoreObserver: Send + Sync + 'static {
    /// One attempt ended. Where a "not found" is an answer and no fault (a blob that is not there,
    /// an upload already gone), the outcome is `Ok`.
    fn attempt(&self, operation: StoreOperation, outcome: Result<(), FaultClass>, took: Duration);

    /// The operation failed this way and will be tried again.
    fn retry(&self, operation: StoreOperation, class: FaultClass);

    /// A call came to its end with the last of these attempts. Not told of a call that nobody waits
    /// for any more, nor of completions, which are settled in their own way.
    fn call(
        &self,
        operation: StoreOperation,
        outcome: Result<(), FaultClass>,
        attempts: u32,
        took: Duration,
    );
}

/// Hears nothing.
impl StoreObserver for () {
    fn attempt(&self, _: StoreOperation, _: Result<(), FaultClass>, _: Duration) {}

    fn retry(&self, _: StoreOperation, _: FaultClass) {}

    fn call(&self, _: StoreOperation, _: Result<(), FaultClass>, _: u32, _: Duration) {}
}
