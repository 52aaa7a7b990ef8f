//! The pure pieces on the way of every push, by themselves: routing a path, hashing, and gathering a
//! part.

use blobgate::registry::{Algorithm, DigestHasher, route};
use blobgate::upload::Gatherer;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::Method;
use std::hint::black_box;

fn routing(criterion: &mut Criterion) {
    let digest = "0123456789abcdef".repeat(4);
    let push = format!("/v2/team/models/blobs/sha256:{digest}");
    let session = "/v2/team/models/blobs/uploads/9d1a2c3e-0000-4000-8000-000000000000";
    criterion.bench_function("route a push", |bench| {
        bench.iter(|| route(&Method::PUT, black_box(&push)))
    });
    criterion.bench_function("route a session", |bench| {
        bench.iter(|| route(&Method::PUT, black_box(session)))
    });
}

fn hashing(criterion: &mut Criterion) {
    let batch = vec![0x5a; 1 << 20];
    let mut group = criterion.benchmark_group("hash a batch of 1 MiB");
    group.throughput(Throughput::Bytes(batch.len() as u64));
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        group.bench_function(algorithm.as_str(), |bench| {
            let mut hasher = DigestHasher::new(algorithm);
            bench.iter(|| hasher.update(black_box(&batch)))
        });
    }
    group.finish();
}

fn gathering(criterion: &mut Criterion) {
    const PART: usize = 16 << 20;
    let mut group = criterion.benchmark_group("gather a part of 16 MiB");
    group.throughput(Throughput::Bytes(PART as u64));
    // As pingora reads them, as HTTP/2 frames them, and as a client sends them that means no good.
    for chunk_size in [64 << 10, 16 << 10, 1] {
        let chunk = Bytes::from(vec![0x5a; chunk_size]);
        group.bench_function(format!("in chunks of {chunk_size} bytes"), |bench| {
            bench.iter(|| {
                let mut part = Gatherer::default();
                for _ in 0..PART / chunk_size {
                    part.push(black_box(chunk.clone()));
                }
                part.take()
            })
        });
    }
    group.finish();
}

criterion_group!(benches, routing, hashing, gathering);
criterion_main!(benches);
