mod calls;
mod completing;
mod faults;
mod listing;
mod secrecy;

use super::*;
use crate::config::{Credentials, LayoutKind, Secret};
use crate::store::{FaultClass, UploadHandle};
use crate::test_server::{Server, Step};
use std::sync::Mutex;

pub const SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";

pub fn config(server: &Server) -> config::Bucket {
    config::Bucket {
        name: "blobs-bucket".to_owned(),
        region: "eu-test-7".to_owned(),
        endpoint: Some(format!("http://{}", server.address).parse().unwrap()),
        root_directory: "some/root".to_owned(),
        layout: LayoutKind::Distribution,
        path_style: true,
        ca_file: None,
        encrypt: false,
        kms_key_id: None,
        storage_class: None,
        acl: None,
        credentials: Credentials::Static {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new(SECRET.to_owned()),
            session_token: None,
        },
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(10),
        call_timeout: Duration::from_secs(30),
        max_attempts: 3,
        retry_budget: Duration::from_secs(100),
    }
}

/// What the observer heard, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Attempt(StoreOperation, Result<(), FaultClass>),
    Retry(StoreOperation, FaultClass),
    Call(StoreOperation, Result<(), FaultClass>, u32),
}

#[derive(Default)]
pub struct Recorder(Mutex<Vec<Heard>>);

impl Recorder {
    pub fn heard(&self) -> Vec<Heard> {
        self.0.lock().unwrap().clone()
    }
}

impl StoreObserver for Recorder {
    fn attempt(&self, operation: StoreOperation, outcome: Result<(), FaultClass>, _: Duration) {
        self.0
            .lock()
            .unwrap()
            .push(Heard::Attempt(operation, outcome));
    }

    fn retry(&self, operation: StoreOperation, class: FaultClass) {
        self.0.lock().unwrap().push(Heard::Retry(operation, class));
    }

    fn call(
        &self,
        operation: StoreOperation,
        outcome: Result<(), FaultClass>,
        attempts: u32,
        _: Duration,
    ) {
        let call = Heard::Call(operation, outcome, attempts);
        self.0.lock().unwrap().push(call);
    }
}

/// A store before a server that plays the script.
pub async fn scripted(script: impl IntoIterator<Item = Step>) -> (S3Store, Server) {
    let server = Server::start(script).await;
    let store = S3Store::new(&config(&server), Arc::new(())).unwrap();
    (store, server)
}

pub fn digest() -> Digest {
    format!("sha256:{}", "ab".repeat(32)).parse().unwrap()
}

/// The data key of [`digest`].
pub fn key() -> String {
    let hex = "ab".repeat(32);
    format!("some/root/docker/registry/v2/blobs/sha256/ab/{hex}/data")
}

pub fn upload() -> UploadHandle {
    UploadHandle {
        key: key(),
        upload_id: "an/upload+id=".to_owned(),
    }
}
