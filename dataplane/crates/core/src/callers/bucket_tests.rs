use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fastrand::Rng;

use super::bucket::{Bucket, Nanos};

const SECOND: f64 = 1e9;
/// Times are whole nanoseconds: what is rounded up is less than this part of a token, at any rate here.
const ROUNDED: f64 = 1e-3;

/// A bucket as one would write it down: tokens and when they were counted.
struct Plain {
    tokens: f64,
    burst: f64,
    per_s: f64,
    at: Nanos,
}

impl Plain {
    fn at(&mut self, now: Nanos) -> f64 {
        let earned = (now - self.at) as f64 / SECOND * self.per_s;
        self.tokens = self.burst.min(self.tokens + earned);
        self.at = now;
        self.tokens
    }
}

fn rate(random: &mut Rng) -> (f64, f64, Nanos, Nanos) {
    let per_s = 10_f64.powf(random.f64() * 6.0 - 2.0);
    let burst = random.u64(1..200) as f64;
    let token = (SECOND / per_s).ceil();
    (per_s, burst, token as Nanos, (burst * token) as Nanos)
}

#[test]
fn a_bucket_gives_what_a_count_of_tokens_gives() {
    for seed in 0..300 {
        let mut random = Rng::with_seed(seed);
        let (_, burst, token, room) = rate(&mut random);
        let bucket = Bucket::default();
        let mut now = random.u64(0..1 << 40);
        let mut plain = Plain {
            tokens: burst,
            burst,
            per_s: SECOND / token as f64,
            at: now,
        };
        for step in 0..300 {
            let idle = if random.u8(..20) == 0 { 50 } else { 2 };
            now += random.u64(0..=token * idle);
            let wanted = random.u64(1..=(burst as u64).min(5));
            let taken = bucket.take(token * wanted, room, now);
            let tokens = plain.at(now);
            match taken {
                Ok(()) => {
                    assert!(
                        tokens >= wanted as f64 - ROUNDED,
                        "seed {seed}, step {step}: too many"
                    );
                    plain.tokens -= wanted as f64;
                }
                Err(wait) => {
                    assert!(
                        tokens < wanted as f64 + ROUNDED,
                        "seed {seed}, step {step}: too few"
                    );
                    let due = (wanted as f64 - tokens) * token as f64;
                    let far = (wait as f64 - due).abs();
                    assert!(
                        far <= 1.0 + token as f64 * ROUNDED,
                        "seed {seed}, step {step}: {wait} {due}"
                    );
                }
            }
        }
    }
}

#[test]
fn no_stretch_of_time_gets_more_than_the_burst_and_what_the_time_brings() {
    for seed in 0..40 {
        let mut random = Rng::with_seed(seed);
        let (_, burst, token, room) = rate(&mut random);
        let (bucket, mut now) = (Bucket::default(), 0);
        let mut taken = Vec::new();
        for _ in 0..300 {
            now += random.u64(0..=token);
            if bucket.take(token, room, now).is_ok() {
                taken.push(now);
            }
        }
        for (first, from) in taken.iter().enumerate() {
            for (last, to) in taken.iter().enumerate().skip(first) {
                let most = burst + (to - from) as f64 / token as f64;
                let got = (last - first + 1) as f64;
                assert!(got <= most + ROUNDED, "seed {seed}: {got} of {most}");
            }
        }
    }
}

#[test]
fn whoever_waits_as_told_is_served_and_not_before() {
    let bucket = Bucket::default();
    for seed in 0..200 {
        let mut random = Rng::with_seed(seed);
        let (_, _, token, room) = rate(&mut random);
        let (bucket, now) = (&bucket, 1 << 62);
        let Err(wait) = (0..).try_for_each(|_| bucket.take(token, room, now)) else {
            unreachable!("a bucket is empty some time");
        };
        assert_eq!(
            bucket.take(token, room, now + wait - 1),
            Err(1),
            "seed {seed}"
        );
        assert_eq!(bucket.take(token, room, now + wait), Ok(()), "seed {seed}");
        bucket.rescale(0.0, now);
    }
}

#[test]
fn what_is_larger_than_the_bucket_is_taken_and_owed() {
    let (bucket, room) = (Bucket::default(), 1000);
    assert_eq!(bucket.take_whole(5000, room, 0), Ok(()));
    assert_eq!(bucket.take_whole(1, room, 0), Err(4001));
    assert_eq!(bucket.take_whole(1, room, 4000), Err(1));
    assert_eq!(bucket.take_whole(5000, room, 4001), Ok(()));
    let without_room = Bucket::default();
    assert_eq!(without_room.take_whole(10, 0, 0), Ok(()));
    assert_eq!(without_room.take_whole(10, 0, 9), Err(1));
    // Over any time, what the time brings, the bucket, and one that was over.
    for seed in 0..100 {
        let mut random = Rng::with_seed(seed);
        let (bucket, mut now, mut sum, mut largest) = (Bucket::default(), 0, 0, 0);
        for _ in 0..500 {
            now += random.u64(0..500);
            let size = random.u64(1..3000);
            if bucket.take_whole(size, room, now).is_ok() {
                (sum, largest) = (sum + size, largest.max(size));
            }
            assert!(sum < now + room + largest, "seed {seed}");
        }
        assert!(sum >= now, "seed {seed}: more was asked for all the time");
    }
}

#[test]
fn as_many_tokens_are_missing_after_a_change_of_the_rate() {
    let bucket = Bucket::default();
    for _ in 0..10 {
        assert_eq!(bucket.take(100, 1000, 50), Ok(()));
    }
    assert_eq!(bucket.take(100, 1000, 50), Err(100), "ten of ten");
    bucket.rescale(0.1, 50);
    assert_eq!(
        bucket.take(10, 100, 50),
        Err(10),
        "ten of ten, ten times as fast"
    );
    assert_eq!(bucket.take(10, 110, 50), Ok(()), "one more since");
}

#[test]
fn threads_get_no_more_than_there_is_together() {
    for _ in 0..20 {
        let (bucket, given) = (Arc::new(Bucket::default()), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (bucket, given) = (bucket.clone(), given.clone());
                std::thread::spawn(move || {
                    while bucket.take(10, 5000, 7).is_ok() {
                        given.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("it does not panic");
        }
        assert_eq!(given.load(Relaxed), 500);
    }
}
