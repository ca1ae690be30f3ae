//! The credit for control frames, and the memory of resets.

use super::*;

#[test]
fn control_frames_beyond_the_credit_are_not_paid() {
    let mut credit = Credit::new(3, 2);
    assert!((0..3).all(|_| credit.pay()));
    assert!(!credit.pay());
    credit.earn();
    assert!(credit.pay() && credit.pay());
    assert!(!credit.pay());
}

#[test]
fn what_is_earned_is_kept_up_to_a_limit() {
    let mut credit = Credit::new(3, 1000);
    for _ in 0..10 {
        credit.earn();
    }
    assert!((0..3 * HOARD).all(|_| credit.pay()));
    assert!(!credit.pay());
}

#[test]
fn the_last_resets_are_remembered_and_older_ones_forgotten() {
    let mut recent = Recent::default();
    let last = 2 * REMEMBERED as u32 + 3;
    for stream in 0..=last {
        recent.add(stream);
    }
    let known = (0..=last).filter(|it| recent.contains(*it)).count();
    assert_eq!(known, REMEMBERED);
    assert!(recent.contains(last) && recent.contains(last - REMEMBERED as u32 + 1));
    assert!((0..=last).all(|it| recent.may_have_been(it)));
    assert!(!recent.may_have_been(last + 1));
}
