use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use proptest::prelude::*;
use tokio::time::advance;

use super::*;
use crate::engine::settings::Clock;
use crate::error::{Failure, FailureKind};
use crate::policy::budget::Bounds;
use crate::policy::rate::{Rates, RequestsACall};
use crate::policy::retry::RetryPolicy;
use crate::usage::Usage;

const SECOND: Duration = Duration::from_secs(1);
static NONE: Arguments = Arguments::new();

fn admission(concurrency: usize, rpm: Option<u32>) -> Admission {
    let settings = EngineSettings {
        concurrency,
        timeout: 60 * SECOND,
        clock: Clock::Handover,
        row_timeout: None,
        stuck_after: SECOND,
        retry: RetryPolicy { retries: 3, base: SECOND, cap: 60 * SECOND },
        rates: Rates { rpm: rpm.and_then(NonZeroU32::new), tpm: None },
        requests: RequestsACall::ONE,
        seed: 0,
    };
    Admission::new(&settings, Arc::default())
}

/// A hundred tokens.
fn usage() -> Usage {
    Usage { input: 100, output: 0, calls: 1, cost_usd: None }
}

/// A budget of so many tokens, where a call is estimated to use a hundred.
fn tokens(max: u64) -> Budget {
    Budget::new(Bounds { cost: None, tokens: Some(max) }, None, &usage())
}

type Row<'a> = Pin<Box<dyn Future<Output = Option<Admitted<'a>>> + 'a>>;

/// Polls a row that must not have been turned away. Returns its call if it is admitted.
fn poll<'a>(row: &mut Row<'a>, waker: &Waker) -> Option<Admitted<'a>> {
    match row.as_mut().poll(&mut Context::from_waker(waker)) {
        Poll::Ready(admitted) => Some(admitted.expect("it is not closed")),
        Poll::Pending => None,
    }
}

fn look<'a>(row: &mut Row<'a>) -> Option<Admitted<'a>> {
    poll(row, Waker::noop())
}

/// A row that has to wait.
fn waits(admission: &Admission, side: Side) -> Row<'_> {
    let mut row: Row<'_> = Box::pin(admission.admit(0, side, &NONE));
    assert!(look(&mut row).is_none());
    row
}

/// A row that is admitted at once.
fn goes(admission: &Admission) -> Admitted<'_> {
    look(&mut (Box::pin(admission.admit(0, Side::Fresh, &NONE)) as Row<'_>)).expect("nothing holds it back")
}

/// The call is answered and recorded.
fn end(admitted: Admitted<'_>) {
    let Admitted { in_flight, permit, pass, .. } = admitted;
    drop(in_flight);
    let begun = pass.begun();
    pass.ended(begun, &Ok(Answer { usage: Some(usage()), ..Answer::default() }));
    drop(permit);
}

/// Counts how often it wakes.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_is_given_back_wakes_one_row_and_that_wakes_the_next() {
    let admission = admission(1, Some(u32::MAX));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let first = goes(&admission);
    let mut rows: Vec<Row<'_>> =
        (0..100).map(|_| Box::pin(admission.admit(0, Side::Fresh, &NONE)) as Row<'_>).collect();
    assert!(rows.iter_mut().all(|row| poll(row, &waker).is_none()));
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    end(first);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    let second = poll(&mut rows[0], &waker).expect("it has the permit");
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert!(rows[1..].iter_mut().all(|row| poll(row, &waker).is_none()));
    end(second);
    assert_eq!(woken.0.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn while_nothing_limits_the_run_permits_that_are_given_back_together_wake_as_many_rows() {
    let admission = admission(3, None);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    // Only a call that has ended shows that nothing limits the run.
    end(goes(&admission));
    let going = [goes(&admission), goes(&admission), goes(&admission)];
    let mut rows: Vec<Row<'_>> =
        (0..10).map(|_| Box::pin(admission.admit(0, Side::Fresh, &NONE)) as Row<'_>).collect();
    assert!(rows.iter_mut().all(|row| poll(row, &waker).is_none()));
    going.into_iter().for_each(end);
    assert_eq!(woken.0.load(Ordering::Relaxed), 3);
    let admitted: Vec<_> = rows[..3].iter_mut().filter_map(|row| poll(row, &waker)).collect();
    assert_eq!((admitted.len(), woken.0.load(Ordering::Relaxed)), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn what_the_row_at_the_front_waits_for_limits_the_run_and_a_permit_limits_none() {
    let admission = admission(2, Some(60));
    let first = goes(&admission);
    let (mut second, mut third) = (waits(&admission, Side::Fresh), waits(&admission, Side::Fresh));
    assert_eq!(admission.limited_by(), Some(LimitedBy::Rpm));
    advance(2 * SECOND).await;
    let _in_flight = look(&mut second).expect("a second has passed");
    assert_eq!(admission.limited_by(), None);
    assert!(look(&mut third).is_none(), "there is no permit");
    advance(3 * SECOND).await;
    assert_eq!((admission.limited_by(), admission.limited_for().total()), (None, 2 * SECOND));
    drop(first);
    let third = look(&mut third).expect("there is a permit");
    assert_eq!((third.paced, third.queued), (2 * SECOND, 3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_row_that_failed_goes_before_a_fresh_one_that_waits_at_the_front() {
    let admission = admission(4, Some(60));
    let _first = goes(&admission);
    let (mut fresh, mut failed) = (waits(&admission, Side::Fresh), waits(&admission, Side::Again));
    advance(2 * SECOND).await;
    assert!(look(&mut fresh).is_none());
    let failed = look(&mut failed).expect("it has paid what the fresh row was to pay");
    // Its call is not made, so what it paid is the fresh row's.
    drop(failed);
    assert!(look(&mut fresh).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_budget_holds_rows_back_until_a_call_ends_or_is_not_made_and_tells_when_it_is_used_up() {
    let admission = admission(10, None).within(Some(tokens(250)));
    let (first, second) = (goes(&admission), goes(&admission));
    let mut third = waits(&admission, Side::Fresh);
    advance(SECOND).await;
    assert_eq!((admission.limited_by(), admission.exhausted()), (None, None));
    drop(second);
    let third = look(&mut third).expect("there is room");
    assert_eq!((third.paced, third.queued), (Duration::ZERO, SECOND));
    let mut fourth = waits(&admission, Side::Fresh);
    end(first);
    assert!(look(&mut fourth).is_none() && admission.exhausted().is_none());
    third.pass.cut_off();
    assert!(look(&mut fourth).is_none() && admission.exhausted().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_befalls_a_lane_neither_begins_an_outage_nor_ends_one() {
    let admission = admission(4, None);
    let call = async |row, result: Result<Answer, CallError>| {
        let admitted = admission.admit(row, Side::Again, &NONE).await.unwrap();
        let begun = admitted.pass.begun();
        admitted.pass.ended(begun, &result);
        admission.outage().is_some()
    };
    let of_lane = || {
        let blocked = Failure::blocked(SECOND, "");
        [
            CallError::Lost(String::new()),
            CallError::Crash(String::new()),
            CallError::Predictor(Box::new(blocked)),
        ]
    };
    for (row, error) in (0..60).zip(of_lane().into_iter().cycle()) {
        assert!(!call(row, Err(error)).await);
    }
    let down = || CallError::Predictor(Box::new(Failure::new("Down", FailureKind::Unavailable, "")));
    let mut rows = 60..100;
    while !call(rows.next().expect("an outage is noticed"), Err(down())).await {}
    for (row, error) in (100..).zip(of_lane()) {
        assert!(call(row, Err(error)).await, "the server has not answered");
    }
    assert!(!call(104, Ok(Answer::default())).await);
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_are_turned_away_once_it_is_closed() {
    let admission = Arc::new(admission(2, Some(60)));
    let _first = goes(&admission);
    let rows: Vec<_> = (0..20)
        .map(|_| {
            let admission = Arc::clone(&admission);
            tokio::spawn(async move { admission.admit(0, Side::Fresh, &NONE).await.is_none() })
        })
        .collect();
    tokio::task::yield_now().await;
    admission.close();
    for row in rows {
        assert!(row.await.unwrap());
    }
    assert!(admission.admit(0, Side::Again, &NONE).await.is_none());
}

/// What happens next, to the row or the call of that number.
#[derive(Debug, Clone, Copy)]
enum Step {
    Come(bool),
    Look(usize),
    Leave(usize),
    End(usize),
    GiveBack(usize),
    Pass,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Step::{Come, End, GiveBack, Leave, Look, Pass};
    let step = prop_oneof![
        4 => any::<bool>().prop_map(Come),
        4 => any::<usize>().prop_map(Look),
        2 => any::<usize>().prop_map(Leave),
        2 => any::<usize>().prop_map(End),
        1 => any::<usize>().prop_map(GiveBack),
        1 => Just(Pass),
    ];
    prop::collection::vec(step, 0..200)
}

fn take<T>(list: &mut Vec<T>, number: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.remove(number % list.len()))
}

proptest! {
    /// Whoever is dropped, wherever it waits, the others come to their turns, and all is given back in the end.
    #[test]
    fn rows_that_are_dropped_leave_nothing_behind(
        concurrency in 1usize..4, rpm in prop::option::of(60u32..6_000), steps in steps(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let admission = admission(concurrency, rpm).within(Some(tokens(1_000_000)));
            let (mut rows, mut admitted): (Vec<Row<'_>>, Vec<Admitted<'_>>) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Come(failed) => {
                        let side = if failed { Side::Again } else { Side::Fresh };
                        rows.push(Box::pin(admission.admit(0, side, &NONE)));
                    }
                    Step::Look(number) => {
                        if let Some(mut row) = take(&mut rows, number) {
                            match look(&mut row) {
                                Some(call) => admitted.push(call),
                                None => rows.push(row),
                            }
                        }
                    }
                    Step::Leave(number) => drop(take(&mut rows, number)),
                    Step::End(number) => take(&mut admitted, number).into_iter().for_each(end),
                    Step::GiveBack(number) => drop(take(&mut admitted, number)),
                    Step::Pass => advance(SECOND / 10).await,
                }
                prop_assert!(admission.in_flight() == admitted.len() && admitted.len() <= concurrency);
            }
            for _ in 0..4 * rows.len() {
                admitted.drain(..).for_each(end);
                advance(2 * SECOND).await;
                rows.retain_mut(|row| look(row).map(|call| admitted.push(call)).is_none());
            }
            admitted.drain(..).for_each(end);
            prop_assert!(rows.is_empty(), "{} rows are left", rows.len());
            prop_assert_eq!(admission.permits.available_permits(), concurrency);
            let mut shared = admission.lock();
            prop_assert!(matches!(shared.queue.join(Side::Fresh), Place::Front), "somebody is at the front");
            let budget = shared.limiters.budget.take();
            prop_assert!(format!("{budget:?}").contains("in_flight: 0"), "{budget:?}");
            Ok(())
        })?;
    }
}
