//! Connection limits and the rapid-reset rule.

use super::*;

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn connections_are_admitted_up_to_the_limit_and_again_when_one_ends() {
    let limiter = ConnectionLimiter::new(2, 10);
    let first = limiter.admit(None).expect("room");
    let _second = limiter.admit(ip("10.0.0.1")).expect("room");
    assert_eq!(
        limiter.admit(ip("10.0.0.2")).err(),
        Some(RefusedReason::MaxConnections)
    );
    drop(first);
    assert!(limiter.admit(ip("10.0.0.2")).is_ok());
}

#[test]
fn one_address_cannot_take_the_room_of_others() {
    let limiter = ConnectionLimiter::new(10, 1);
    let first = limiter.admit(ip("10.0.0.1")).expect("room");
    assert_eq!(
        limiter.admit(ip("10.0.0.1")).err(),
        Some(RefusedReason::MaxConnectionsPerIp)
    );
    assert_eq!(
        limiter.admit(ip("::ffff:10.0.0.1")).err(),
        Some(RefusedReason::MaxConnectionsPerIp)
    );
    assert_eq!(limiter.count(), 1, "a refused connection is not counted");
    let _other = limiter.admit(ip("10.0.0.2")).expect("room");
    let _unix = limiter.admit(None).expect("room");
    let _unix_too = limiter.admit(None).expect("unix sockets have no address");
    drop(first);
    assert!(limiter.admit(ip("10.0.0.1")).is_ok());
}

#[test]
fn nothing_is_left_when_all_connections_have_ended_on_other_threads() {
    let limiter = ConnectionLimiter::new(1000, 1000);
    let guards: Vec<_> = (0..200)
        .filter_map(|i| limiter.admit(ip(&format!("10.0.0.{}", i % 7))).ok())
        .collect();
    std::thread::scope(|scope| {
        guards
            .into_iter()
            .for_each(|guard| drop(scope.spawn(move || drop(guard))));
    });
    let counts = lock(&limiter.counts);
    assert!(counts.total == 0 && counts.by_ip.is_empty());
}

#[test]
fn a_burst_of_resets_is_seen_within_the_burst() {
    let (mut guard, start) = (ResetGuard::default(), Instant::now());
    for i in 0..10_000u32 {
        let now = start + Duration::from_micros(10) * i;
        guard.opened(now);
        guard.reset(now, now);
        assert_eq!(guard.exceeded(), i + 1 >= 500, "after {i}");
    }
}

#[test]
fn up_to_half_of_the_streams_may_be_reset() {
    let (mut guard, now) = (ResetGuard::default(), Instant::now());
    (0..1000).for_each(|_| guard.opened(now));
    (0..500).for_each(|_| guard.reset(now, now));
    assert!(!guard.exceeded());
    guard.reset(now, now);
    assert!(guard.exceeded());
}

#[test]
fn slow_resets_never_add_up() {
    let (mut guard, start) = (ResetGuard::default(), Instant::now());
    for i in 0..50_000u32 {
        let now = start + ms(3) * i;
        guard.opened(now);
        guard.reset(now, now + ms(1));
        assert!(!guard.exceeded());
    }
}

#[test]
fn calls_that_time_out_after_the_window_do_not_count() {
    let (mut guard, start) = (ResetGuard::default(), Instant::now());
    // A hung endpoint: 1,000 calls/s, each given up after 1.2 s.
    for i in 0..5000u32 {
        let now = start + ms(1) * i;
        guard.opened(now);
        if i >= 1200 {
            guard.reset(now - ms(1200), now);
        }
        assert!(!guard.exceeded());
    }
}

#[test]
fn a_quiet_second_forgets_everything() {
    let (mut guard, start) = (ResetGuard::default(), Instant::now());
    for _ in 0..499 {
        guard.opened(start);
        guard.reset(start, start);
    }
    let later = start + ms(1000);
    guard.opened(later);
    guard.reset(later, later);
    assert!(!guard.exceeded());
}
