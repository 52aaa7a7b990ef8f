//! The pure pieces on the way of every push, by themselves: routing a path, and hashing.

use blobgate::registry::{Algorithm, DigestHasher, route};
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

criterion_group!(benches, routing, hashing);
criterion_main!(benches);
