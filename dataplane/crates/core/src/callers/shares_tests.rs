use super::*;

#[test]
fn a_share_is_never_more_than_the_whole_and_never_nothing() {
    let share = Share::default();
    assert_eq!(share.get(), None);
    for (given, got) in [(0.4, 0.4), (17.0, 1.0), (f64::INFINITY, 1.0)] {
        assert!(share.set(Some(given)));
        assert_eq!(share.get(), Some(got));
        share.set(None);
    }
    for given in [0.0, -3.0] {
        share.set(Some(given));
        assert!(
            share.get().is_some_and(|it| it > 0.0 && it < 1e-300),
            "{given}"
        );
        share.set(None);
    }
}

#[test]
fn a_share_that_hardly_differs_is_no_other() {
    let share = Share::default();
    assert!(share.set(Some(0.5)));
    assert!(!share.set(Some(0.52)) && !share.set(Some(0.48)));
    assert_eq!(share.get(), Some(0.5));
    assert!(share.set(Some(0.53)) && share.set(None) && !share.set(None));
}

#[test]
fn demand_is_counted_once_and_falls_by_half_at_most() {
    let demand = Demand::default();
    demand.add(30, 0);
    demand.add(0, 100);
    assert_eq!((demand.requests(2.0), demand.bytes(2.0)), (15.0, 50.0));
    assert_eq!((demand.requests(2.0), demand.bytes(2.0)), (0.0, 0.0));
    assert_eq!((demand.in_flight(3, 4), demand.in_flight(3, 4)), (7.0, 3.0));
    let got = [9.0, 0.1, 0.1, 0.6].map(|it| demand.smooth(Of::Requests, it));
    assert_eq!(got, [1.0, 0.5, 0.25, 0.6]);
    assert_eq!(demand.smooth(Of::Bytes, 0.0), 0.0, "each by itself");
}
