//! An S3 server of its own: signatures, multipart uploads and listings as in S3, and every rule of
//! S3's that a client can break.
//!
//! Entity tags are random, as nothing may conclude anything from them. Aborting or completing an
//! upload a second time is `NoSuchUpload`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::stream;

use crate::background::Background;
use crate::tls::Identity;

mod body;
mod calls;
mod index;
mod listing;
mod server;
mod service;
mod store;

pub use calls::Call;
pub use store::Attributes;

use calls::CallLog;
use store::{Bucket, Object, Store};

/// What an [`S3Server`] is like.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Where the data lies. A server started on a directory that another one was shut down on
    /// goes on with what is there, open uploads included.
    pub root: PathBuf,
    /// Buckets to create.
    pub buckets: Vec<String>,
    /// The one access key that is known.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// Serve https with this certificate.
    pub tls: Option<Identity>,
    /// Buckets are also served as `<bucket>.<domain>`.
    pub domain: String,
    /// Cloudflare R2's rule: all parts of an upload but the last have the same length.
    pub uniform_parts: bool,
}

impl S3Options {
    /// A server on a free loopback port with the bucket `registry` and a pair of test keys.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            root: root.into(),
            buckets: vec!["registry".to_owned()],
            access_key: "testkit".to_owned(),
            secret_key: "testkit-secret".to_owned(),
            tls: None,
            domain: "localhost".to_owned(),
            uniform_parts: false,
        }
    }
}

/// An upload that was neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// The key it is for.
    pub key: String,
    /// S3's id of it.
    pub upload_id: String,
    /// Number and length of the parts that have arrived, in order.
    pub parts: Vec<(i32, u64)>,
    /// When it was created.
    pub initiated: SystemTime,
}

/// A running S3 server. It runs on threads of its own and stops when dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    tls: bool,
    options: S3Options,
    store: Arc<Store>,
    calls: Arc<CallLog>,
    background: Background,
    running: bool,
}

impl S3Server {
    /// Starts a server that accepts connections when this returns.
    pub fn start(options: S3Options) -> io::Result<Self> {
        std::fs::create_dir_all(&options.root)?;
        let store = Arc::new(Store::open(options.root.clone(), options.uniform_parts)?);
        for bucket in &options.buckets {
            store.buckets().entry(bucket.clone()).or_default();
        }
        let calls = Arc::new(CallLog::default());
        let background = Background::new("s3")?;
        let service = service::Service {
            store: Arc::clone(&store),
            calls: Arc::clone(&calls),
        };
        let address = server::start(&background, service, &options)?;
        Ok(Self {
            address,
            tls: options.tls.is_some(),
            options,
            store,
            calls,
            background,
            running: true,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` or, with TLS, `https://localhost:PORT`.
    pub fn url(&self) -> String {
        if self.tls {
            format!("https://localhost:{}", self.address.port())
        } else {
            format!("http://{}", self.address)
        }
    }

    /// The options it was started with.
    pub fn options(&self) -> &S3Options {
        &self.options
    }

    /// Key and size of every object in the bucket, in the keys' order.
    pub fn objects(&self, bucket: &str) -> Vec<(String, u64)> {
        self.read(bucket, |bucket| {
            let object = |(key, object): (&String, &Object)| (key.clone(), object.body.len());
            bucket.objects.iter().map(object).collect()
        })
    }

    /// An object's bytes.
    pub fn read_object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let object = self.read(bucket, |bucket| bucket.objects.get(key).cloned())?;
        Some(object.body.read().expect("cannot read an object's file"))
    }

    /// What an object was stored with: content type, encryption, storage class, ACL.
    pub fn attributes(&self, bucket: &str, key: &str) -> Option<Attributes> {
        self.read(bucket, |bucket| {
            Some(bucket.objects.get(key)?.attributes.clone())
        })
    }

    /// Every multipart upload that is open in the bucket.
    pub fn open_uploads(&self, bucket: &str) -> Vec<OpenUpload> {
        self.read(bucket, |bucket| {
            let uploads = bucket.uploads.iter().map(|(id, upload)| OpenUpload {
                key: upload.key.clone(),
                upload_id: id.clone(),
                parts: upload
                    .parts
                    .iter()
                    .map(|(n, p)| (*n, p.body.len()))
                    .collect(),
                initiated: upload.initiated,
            });
            uploads.collect()
        })
    }

    /// Lets an open upload look older than it is.
    pub fn backdate_upload(&self, bucket: &str, upload_id: &str, by: Duration) {
        self.read(bucket, |bucket| {
            let upload = bucket.uploads.get_mut(upload_id);
            let upload = upload.expect("no such upload");
            upload.initiated -= by;
            for part in upload.parts.values_mut() {
                part.modified -= by;
            }
        });
    }

    /// Opens a multipart upload straight in the store and returns its id, so that a test has one
    /// that no client knows of.
    pub fn create_upload(&self, bucket: &str, key: &str) -> String {
        self.read(bucket, |bucket| {
            let initiated = SystemTime::now();
            let upload_id = store::new_upload_id(initiated);
            let upload = store::Upload {
                key: key.to_owned(),
                initiated,
                attributes: Attributes::default(),
                parts: BTreeMap::new(),
            };
            bucket.uploads.insert(upload_id.clone(), upload);
            upload_id
        })
    }

    /// Puts an object straight into the store.
    pub fn put_object(&self, bucket: &str, key: &str, content: impl Into<Bytes>) {
        let content = stream::iter([io::Result::Ok(content.into())]);
        let written = futures::executor::block_on(self.store.files.write(content, false));
        let (body, _) = written.expect("cannot write an object's file");
        let object = Object {
            attributes: Attributes::default(),
            e_tag: store::new_e_tag(),
            modified: SystemTime::now(),
            body,
        };
        self.read(bucket, |bucket| {
            bucket.objects.insert(key.to_owned(), object)
        });
    }

    /// Removes an object from the store; tells whether it was there.
    pub fn delete_object(&self, bucket: &str, key: &str) -> bool {
        self.read(bucket, |bucket| bucket.objects.remove(key).is_some())
    }

    /// How often each operation was called.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.calls.counts()
    }

    /// Every call in order of arrival.
    pub fn call_log(&self) -> Vec<Call> {
        self.calls.all()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.calls.clear();
    }

    /// Closes every connection and leaves the data for the next server on the same directory.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if !self.running {
            return;
        }
        self.running = false;
        self.background.stop();
        if let Err(error) = self.store.save() {
            // The directory may be gone already, with the test that owned it.
            eprintln!("s3: index not written: {error}");
        }
    }

    fn read<T>(&self, bucket: &str, step: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut buckets = self.store.buckets();
        step(buckets.get_mut(bucket).expect("no such bucket"))
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}
