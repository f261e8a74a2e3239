//! An ordered pool of threads: they work on blocks side by side, and their results come in the order of the blocks.
//!
//! It saves an eighth of a whole run of a predictor that costs nothing, on two cores.

use std::collections::VecDeque;
use std::sync::mpsc::sync_channel;
use std::thread;

/// How many blocks a worker may have: one that it works on, and one that waits. The channels have room for both, so
/// that the threads cannot wait for each other in a circle.
const UNDER_WAY: usize = 2;
/// How many results of a worker may wait to be taken, so that the worker need not wait for its turn.
const PARTS: usize = 2;
/// How many bytes the blocks in work may have together. Before they exceed it, no further block is made, so that memory
/// does not grow with the number of long rows.
const WEIGHT: usize = 16 << 20;

/// A block to work on.
pub(super) trait Weighed: Send {
    /// Its size in bytes.
    fn weight(&self) -> usize;
}

/// Passes the blocks from `next` to the workers in turn, each on its own thread, and their results to `take`, in the
/// order of the blocks.
///
/// A worker passes its results to the function it is given, which returns false once they are no longer wanted. Memory
/// is bounded: by two blocks a worker or [`WEIGHT`], and by a few results of each worker.
///
/// # Errors
///
/// Fails with the first error, in the order of the blocks, of `next`, a worker, or `take`.
pub(super) fn run<B: Weighed, R: Send, E: Send>(
    workers: Vec<impl FnMut(B, &mut dyn FnMut(R) -> bool) -> Result<(), E> + Send>,
    mut next: impl FnMut() -> Result<Option<B>, E>,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    thread::scope(|scope| {
        let pool: Vec<_> = workers
            .into_iter()
            .map(|mut work| {
                let (blocks, inbox) = sync_channel::<B>(UNDER_WAY - 1);
                let (results, outbox) = sync_channel::<Given<R, E>>(PARTS);
                scope.spawn(move || {
                    for block in inbox {
                        let ended = work(block, &mut |result| results.send(Given::Part(result)).is_ok());
                        // Sending fails after an error of another thread.
                        if results.send(Given::End(ended)).is_err() {
                            return;
                        }
                    }
                });
                (blocks, outbox)
            })
            .collect();
        let mut finish = |block: usize| {
            let (_, outbox) = &pool[block % pool.len()];
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
            while weights.len() == UNDER_WAY * pool.len() || weights.iter().sum::<usize>() > WEIGHT {
                finish(finished)?;
                finished += 1;
                weights.pop_front();
            }
            weights.push_back(block.weight());
            // Sending fails if the worker has panicked, which is noticed when its block is to be finished.
            let _ = pool[given % pool.len()].0.send(block);
            given += 1;
        };
        // The results of earlier blocks come before an error of `next`.
        (finished..given).try_for_each(&mut finish)?;
        ended
    })
}

/// What a worker sends for a block.
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
        let work = |worker: u64| {
            move |block: u64, give: &mut dyn FnMut(u64) -> bool| {
                if worker == 1 {
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
