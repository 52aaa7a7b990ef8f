//! Every moment of a request's life at which the process may be told to end.

use crate::common::{MIB, PART, data_key};
use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Fault, Gate, Rule};
use blobgate_testkit::http::{RawConnection, RawResponse};
use blobgate_testkit::stack::Stack;
use std::time::Duration;

pub const REPOSITORY: &str = "team/app";

/// How long anything may take that takes no time, on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The upstream has not said yet whether the client may push.
    Question,
    /// Another push has the only slot.
    Admission,
    /// Some of the first part is here; the upload is open in the store.
    FirstPart,
    /// A part is on its way to the store.
    Parts,
    /// The store was told to complete the upload.
    Complete,
    /// A blob of one part, verified, is on its way to the store.
    Small,
    /// The client was answered early, and goes on to send what is dropped.
    Drain,
    /// A connection that had a request.
    Idle,
    /// A forwarded request that the registry has not answered.
    Forwarded,
}

impl Phase {
    pub const ALL: [Phase; 9] = [
        Self::Question,
        Self::Admission,
        Self::FirstPart,
        Self::Parts,
        Self::Complete,
        Self::Small,
        Self::Drain,
        Self::Idle,
        Self::Forwarded,
    ];

    /// Uploads open in the bucket at this moment.
    pub fn open_uploads(self) -> usize {
        match self {
            Self::Question | Self::Small | Self::Drain | Self::Idle | Self::Forwarded => 0,
            Self::Admission | Self::FirstPart | Self::Parts | Self::Complete => 1,
        }
    }
}

/// A stack held in a phase.
pub struct Scene {
    pub pushes: Vec<Push>,
    /// A connection without a push in flight.
    pub other: Option<RawConnection>,
    gate: Gate,
}

impl Scene {
    /// Brings the stack into the phase, and returns once it is there.
    pub async fn enter(stack: &Stack, phase: Phase) -> Self {
        let gate = Gate::new();
        let hold = || Fault::HoldBefore(gate.clone());
        let mut scene = Scene {
            pushes: Vec::new(),
            other: None,
            gate: gate.clone(),
        };
        let blob = Blob::new(1, 2 * PART + 7);
        match phase {
            Phase::Question => {
                let manifests = Rule::new(hold()).target("/manifests/");
                stack.registry_faults().add(manifests);
                scene.pushes.push(Push::begin(stack, blob).await);
                gate.reached(1).await;
            }
            Phase::Admission => {
                let mut holder = Push::begin(stack, blob).await;
                holder.send(100).await;
                created(stack).await;
                let waiter = Push::begin(stack, Blob::new(2, blob.size)).await;
                until_waiting(stack).await;
                scene.pushes.extend([holder, waiter]);
            }
            Phase::FirstPart => {
                let mut push = Push::begin(stack, blob).await;
                push.send(100).await;
                created(stack).await;
                scene.pushes.push(push);
            }
            Phase::Parts => {
                stack.s3_faults().add(Rule::on("UploadPart", hold()));
                let mut push = Push::begin(stack, blob).await;
                push.send(PART as usize + 100).await;
                gate.reached(1).await;
                scene.pushes.push(push);
            }
            Phase::Complete => {
                let complete = Rule::on("CompleteMultipartUpload", hold());
                stack.s3_faults().add(complete);
                let mut push = Push::begin(stack, blob).await;
                push.send(blob.size as usize).await;
                gate.reached(1).await;
                scene.pushes.push(push);
            }
            Phase::Small => {
                stack.s3_faults().add(Rule::on("PutObject", hold()));
                let mut push = Push::begin(stack, Blob::new(1, 1000)).await;
                push.send(1000).await;
                // The data and the link.
                gate.reached(2).await;
                scene.pushes.push(push);
            }
            Phase::Drain => {
                let mut push = Push::begin(stack, Blob::new(1, 65 * MIB)).await;
                assert_eq!(push.connection.response().await.unwrap().status, 413);
                push.connection.send("some of it").await.unwrap();
                scene.other = Some(push.connection);
            }
            Phase::Idle => {
                let mut connection = open(stack).await;
                connection.send(GET_ROOT).await.unwrap();
                assert_eq!(connection.response().await.unwrap().status, 200);
                scene.other = Some(connection);
            }
            Phase::Forwarded => {
                stack
                    .registry_faults()
                    .add(Rule::new(hold()).target("/v2/"));
                let mut connection = open(stack).await;
                connection.send(GET_ROOT).await.unwrap();
                gate.reached(1).await;
                scene.other = Some(connection);
            }
        }
        scene
    }

    /// Lets go of what is held.
    pub fn release(&self) {
        self.gate.release();
    }
}

const GET_ROOT: &str = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";

/// A push whose body is sent bit by bit.
pub struct Push {
    pub connection: RawConnection,
    pub blob: Blob,
    sent: usize,
}

impl Push {
    /// Sends the header.
    pub async fn begin(stack: &Stack, blob: Blob) -> Self {
        let mut connection = open(stack).await;
        let head = format!(
            "PUT /v2/{REPOSITORY}/blobs/{} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            blob.sha256(),
            blob.size
        );
        connection.send(head).await.unwrap();
        Self {
            connection,
            blob,
            sent: 0,
        }
    }

    /// Sends this many bytes more.
    pub async fn send(&mut self, bytes: usize) {
        let content = self.blob.bytes();
        let end = self.sent + bytes;
        self.connection
            .send(&content[self.sent..end])
            .await
            .unwrap();
        self.sent = end;
    }

    /// Sends the rest of the body and reads the answer.
    pub async fn finish(&mut self) -> RawResponse {
        self.send(self.blob.size as usize - self.sent).await;
        self.connection.response().await.unwrap()
    }

    pub fn data_key(&self) -> String {
        data_key(&self.blob.sha256())
    }
}

pub async fn open(stack: &Stack) -> RawConnection {
    let address = stack.blobgate().address();
    RawConnection::open(address).await.unwrap()
}

async fn created(stack: &Stack) {
    stack.s3_faults().finished("CreateMultipartUpload", 1).await;
}

/// Nothing tells that a push has begun to wait, so its metric is asked again and again.
async fn until_waiting(stack: &Stack) {
    let waiting = async {
        loop {
            let metrics = stack.blobgate().metrics().unwrap();
            if metrics["blobgate_uploads_waiting"] == 1.0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting)
        .await
        .expect("the second push never came to wait");
}
