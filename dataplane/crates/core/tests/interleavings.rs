//! What threads share, with their steps in many orders: shuttle runs each check a thousand times, and at each step of an
//! atomic or a lock another thread may go on. A failure prints the order, for `shuttle::replay`.
//!
//! The counters are the product's own files. Of a cluster's leases it is a model: the real balancer, and slots that
//! are read and written under one lock as `proxy/cluster.rs` does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dl_balance::{Ask, Balancer, Done, Entry, MILLISECOND, Outcome, Settings};
use shuttle::sync::Mutex;
use shuttle::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use shuttle::{check_random, thread};

use bucket::Bucket;
use budget::RetryBudget;
use in_flight::InFlight;

#[path = "../src/callers/bucket.rs"]
#[expect(dead_code, reason = "the checks need only a part of it")]
mod bucket;
#[path = "../src/proxy/budget.rs"]
#[expect(dead_code, reason = "the checks need only a part of it")]
mod budget;
#[path = "../src/call/in_flight.rs"]
mod in_flight;
mod sync {
    pub use shuttle::sync::atomic;
}

const ORDERS: usize = 1000;

fn join(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("it does not panic");
    }
}

#[test]
fn permits_never_exceed_the_limit_and_all_come_back() {
    let check = || {
        let (in_flight, held) = (InFlight::default(), Arc::new(AtomicUsize::new(0)));
        let work = |(in_flight, held): (InFlight, Arc<AtomicUsize>)| {
            thread::spawn(move || {
                for _ in 0..2 {
                    let Some(permit) = in_flight.acquire(2) else {
                        continue;
                    };
                    assert!(
                        held.fetch_add(1, Relaxed) < 2,
                        "more permits than the limit"
                    );
                    held.fetch_sub(1, Relaxed);
                    drop(permit);
                }
            })
        };
        join(
            (0..3)
                .map(|_| work((in_flight.clone(), held.clone())))
                .collect(),
        );
        assert_eq!(in_flight.count(), 0);
    };
    check_random(check, ORDERS);
}

#[test]
fn a_budget_grants_what_it_holds_and_what_time_earns_once() {
    let check = || {
        // Two tokens, and one more that each of the threads sees earned.
        let budget = Arc::new(RetryBudget::new(0.0, 1.0, 2.0, Instant::now()));
        let granted = Arc::new(AtomicUsize::new(0));
        assert!(budget.take_at(Duration::ZERO, false) && budget.take_at(Duration::ZERO, false));
        let work = |(budget, granted): (Arc<RetryBudget>, Arc<AtomicUsize>)| {
            thread::spawn(move || {
                for _ in 0..2 {
                    let is_granted = budget.take_at(Duration::from_secs(1), false);
                    granted.fetch_add(usize::from(is_granted), Relaxed);
                    assert!((0.0..=2.0).contains(&budget.tokens()));
                }
            })
        };
        join(
            (0..3)
                .map(|_| work((budget.clone(), granted.clone())))
                .collect(),
        );
        assert_eq!((granted.load(Relaxed), budget.tokens()), (1, 0.0));
    };
    check_random(check, ORDERS);
}

#[test]
fn requests_fill_a_budget_to_its_cap_and_lose_no_token() {
    let check = || {
        let budget = Arc::new(RetryBudget::new(1.0, 0.0, 3.0, Instant::now()));
        let taken = Arc::new(AtomicUsize::new(0));
        while budget.take_at(Duration::ZERO, false) {}
        let work = |(budget, taken): (Arc<RetryBudget>, Arc<AtomicUsize>)| {
            thread::spawn(move || {
                budget.request();
                assert!((0.0..=3.0).contains(&budget.tokens()));
                taken.fetch_add(usize::from(budget.take_at(Duration::ZERO, false)), Relaxed);
            })
        };
        join(
            (0..3)
                .map(|_| work((budget.clone(), taken.clone())))
                .collect(),
        );
        assert_eq!(taken.load(Relaxed) as f64 + budget.tokens(), 3.0);
    };
    check_random(check, ORDERS);
}

/// One endpoint of the model: its slot, and the leases of it that are out.
struct Member {
    id: u64,
    slot: AtomicUsize,
    leases: AtomicUsize,
}

struct Set {
    balancer: Balancer,
    members: Vec<Arc<Member>>,
}

const REMOVED: usize = usize::MAX;

impl Set {
    fn update(&mut self, ids: &[u64]) {
        let old = std::mem::take(&mut self.members);
        for &id in ids {
            let kept = old.iter().find(|member| member.id == id).cloned();
            self.members.push(kept.unwrap_or_else(|| {
                Arc::new(Member {
                    id,
                    slot: AtomicUsize::new(REMOVED),
                    leases: AtomicUsize::new(0),
                })
            }));
        }
        old.iter()
            .for_each(|member| member.slot.store(REMOVED, Relaxed));
        let entry = |&id: &u64| Entry {
            id,
            weight: 1,
            live: true,
        };
        let entries: Vec<_> = ids.iter().map(entry).collect();
        self.balancer.update(&entries, 0);
        for (slot, member) in self.members.iter().enumerate() {
            member.slot.store(slot, Relaxed);
        }
        self.check();
    }

    fn pick(&mut self) -> Arc<Member> {
        let picked = self.balancer.pick(&Ask::default(), 0).expect("one is live");
        let member = self.members[picked.slot].clone();
        member.leases.fetch_add(1, Relaxed);
        self.check();
        member
    }

    fn finish(&mut self, member: &Member, slot: usize) {
        let done = Done {
            outcome: Outcome::Success,
            started: 0,
            is_probe: false,
            is_timed: true,
            is_stream: false,
        };
        self.balancer.finish(slot, &done, MILLISECOND);
        member.leases.fetch_sub(1, Relaxed);
        self.check();
    }

    /// Each endpoint has the leases in flight that are out, and all together the sum.
    fn check(&self) {
        let mut sum = 0;
        for (slot, member) in self.members.iter().enumerate() {
            let view = self.balancer.view(slot, 0).expect("it is there");
            assert_eq!(view.in_flight as usize, member.leases.load(Relaxed));
            sum += view.in_flight;
        }
        assert_eq!(self.balancer.in_flight(), sum);
    }
}

#[test]
fn leases_that_outlive_an_update_of_the_set_leave_nothing_in_flight() {
    let check = || {
        let (balancer, members) = (Balancer::new(&Settings::default(), 1), Vec::new());
        let set = Arc::new(Mutex::new(Set { balancer, members }));
        let lock = |set: &Arc<Mutex<Set>>, work: &mut dyn FnMut(&mut Set)| {
            work(&mut set.lock().expect("nobody panics"));
        };
        lock(&set, &mut |set| set.update(&[1, 2, 3]));
        let mut threads: Vec<_> = (0..2)
            .map(|_| {
                let set = set.clone();
                thread::spawn(move || {
                    for _ in 0..3 {
                        let member = set.lock().expect("nobody panics").pick();
                        thread::yield_now();
                        let mut set = set.lock().expect("nobody panics");
                        let slot = member.slot.load(Relaxed);
                        set.finish(&member, slot);
                    }
                })
            })
            .collect();
        let updated = set.clone();
        threads.push(thread::spawn(move || {
            for ids in [&[2, 3, 4][..], &[3], &[1, 3, 2]] {
                updated.lock().expect("nobody panics").update(ids);
            }
        }));
        join(threads);
        lock(&set, &mut |set| {
            set.check();
            assert_eq!(set.balancer.in_flight(), 0);
        });
    };
    check_random(check, ORDERS);
}

#[test]
fn a_bucket_gives_each_token_once() {
    let check = || {
        let (bucket, given) = (Arc::new(Bucket::default()), Arc::new(AtomicUsize::new(0)));
        let work = |(bucket, given): (Arc<Bucket>, Arc<AtomicUsize>)| {
            thread::spawn(move || {
                for _ in 0..2 {
                    let is_given = bucket.take(10, 30, 0).is_ok();
                    given.fetch_add(usize::from(is_given), Relaxed);
                }
            })
        };
        join(
            (0..3)
                .map(|_| work((bucket.clone(), given.clone())))
                .collect(),
        );
        assert_eq!(given.load(Relaxed), 3);
    };
    check_random(check, ORDERS);
}
