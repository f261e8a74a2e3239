//! Work on blocks in several threads, its results in the order of the blocks. Not what the work is.

use std::collections::VecDeque;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Blocks under way in a lane: one that is worked on, one that waits. The channels have room for that, so nobody waits
/// for one who waits for him.
const UNDER_WAY: usize = 2;
/// What a worker has handed out and nobody has taken yet: enough that it need not wait for its turn.
const PARTS: usize = 2;
/// Blocks that are larger together are worked off before the next one is made: long rows take no more memory by being
/// many.
const WEIGHT: usize = 16 << 20;

/// Something to be worked on.
pub(super) trait Weighed: Send {
    /// Bytes it takes.
    fn weight(&self) -> usize;
}

/// Gives the blocks that `next` makes to the workers in turn, each on a thread of its own, and everything that they hand
/// out to `take`, in the order of the blocks. The first error in that order ends it; a worker whose part nobody takes any
/// more is told so (`false`). Memory is bounded: two blocks a worker, or [`WEIGHT`], and a few of the parts it hands out.
pub(super) fn run<B: Weighed, R: Send, E: Send>(
    workers: Vec<impl FnMut(B, &mut dyn FnMut(R) -> bool) -> Result<(), E> + Send>,
    mut next: impl FnMut() -> Result<Option<B>, E>,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let lanes: Vec<_> = workers
            .into_iter()
            .map(|mut work| {
                let (blocks, inbox) = sync_channel::<B>(UNDER_WAY - 1);
                let (results, outbox) = sync_channel::<Given<R, E>>(PARTS);
                scope.spawn(move || {
                    for block in inbox {
                        let ended = work(block, &mut |result| results.send(Given::Part(result)).is_ok());
                        // Nobody listens after an error.
                        if results.send(Given::End(ended)).is_err() {
                            return;
                        }
                    }
                });
                (blocks, outbox)
            })
            .collect();
        let mut finish = |block: usize| {
            let (_, outbox) = &lanes[block % lanes.len()];
            for given in outbox {
                match given {
                    Given::Part(result) => take(result)?,
                    Given::End(ended) => return ended,
                }
            }
            panic!("a worker panicked");
        };
        let (mut given, mut finished) = (0, 0);
        let mut weights = VecDeque::new();
        let ended = loop {
            let block = match next() {
                Ok(Some(block)) => block,
                end => break end.map(drop),
            };
            while weights.len() == UNDER_WAY * lanes.len() || weights.iter().sum::<usize>() > WEIGHT {
                finish(finished)?;
                finished += 1;
                weights.pop_front();
            }
            weights.push_back(block.weight());
            // It fails where the worker has panicked, which is found when its block is to be finished.
            let _ = lanes[given % lanes.len()].0.send(block);
            given += 1;
        };
        // What came before an error of `next` is first in the order.
        (finished..given).try_for_each(&mut finish)?;
        ended
    })
}

/// What a lane gives for a block.
enum Given<R, E> {
    Part(R),
    End(Result<(), E>),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    impl Weighed for u64 {
        fn weight(&self) -> usize {
            WEIGHT / 3
        }
    }

    /// Numbers `0..blocks` through three workers, of which one is slow; a number's parts are itself, so many times.
    fn parts(blocks: u64, fails: Option<u64>, ends: Result<(), u64>) -> (Vec<u64>, Result<(), u64>) {
        let work = |lane: u64| {
            move |block: u64, give: &mut dyn FnMut(u64) -> bool| {
                if lane == 1 {
                    thread::sleep(Duration::from_micros(200));
                }
                let _ = (0..block % 5).all(|_| give(block));
                if fails == Some(block) { Err(block) } else { Ok(()) }
            }
        };
        let mut numbers = 0..blocks;
        let mut taken = Vec::new();
        let result = run(
            (0..3).map(work).collect(),
            || numbers.next().map_or_else(|| ends.map(|()| None), |number| Ok(Some(number))),
            |part| {
                taken.push(part);
                Ok(())
            },
        );
        (taken, result)
    }

    fn expected(blocks: u64) -> Vec<u64> {
        (0..blocks).flat_map(|block| vec![block; (block % 5) as usize]).collect()
    }

    #[test]
    fn results_come_in_the_order_of_the_blocks_whichever_worker_is_slow() {
        for blocks in [0, 1, 2, 7, 200] {
            assert_eq!(parts(blocks, None, Ok(())), (expected(blocks), Ok(())));
        }
    }

    #[test]
    fn the_first_error_in_order_ends_it_and_what_came_before_is_taken() {
        assert_eq!(parts(200, Some(91), Ok(())), (expected(92), Err(91)));
        assert_eq!(parts(10, Some(8), Err(99)), (expected(9), Err(8)), "the worker's is first");
        assert_eq!(parts(10, None, Err(99)), (expected(10), Err(99)));
    }

    #[test]
    fn a_taker_that_fails_ends_it() {
        // Endless blocks, but for that nobody takes them.
        let work = |block: u64, give: &mut dyn FnMut(u64) -> bool| {
            while give(block) && block >= 3 {}
            Ok(())
        };
        let mut numbers = 0..1_000_u64;
        let result =
            run(vec![work, work], || Ok(numbers.next()), |part| if part == 3 { Err("full") } else { Ok(()) });
        assert_eq!(result, Err("full"));
        assert!(numbers.start < 20, "no block was made in vain");
    }

    #[test]
    #[should_panic(expected = "a worker panicked")]
    fn a_worker_that_panics_is_no_end() {
        let work = |_: u64, _: &mut dyn FnMut(()) -> bool| -> Result<(), ()> { panic!("by intent") };
        let _ = run(vec![work], || Ok(Some(1)), |()| Ok(()));
    }
}
