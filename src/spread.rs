//! A long list, worked through in runs by all processors, where that pays.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder, available_parallelism};

/// Runs for each thread: one that is held up leaves what it did not begin to the others.
const RUNS_EACH: usize = 4;

/// What `work` makes of each run of `items`, in their order; a panic in it goes on here. A run has at least `worth` items, but for the last:
/// fewer take longer than a thread to start. Threads that the system has not to give are done without.
pub(crate) fn spread<T: Sync, R: Send>(items: &[T], worth: usize, work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let worth = worth.max(1);
    let threads = available_parallelism().map_or(1, usize::from).min(items.len() / worth).max(1);
    let runs: Vec<&[T]> = items.chunks(items.len().div_ceil(threads * RUNS_EACH).max(worth)).collect();
    let next = AtomicUsize::new(0);
    let take = || {
        let run = || {
            let place = next.fetch_add(1, Ordering::Relaxed);
            runs.get(place).map(|run| (place, work(run)))
        };
        std::iter::from_fn(run).collect::<Vec<_>>()
    };
    let mut made: Vec<Option<R>> = runs.iter().map(|_| None).collect();
    let mut keep = |done: Vec<(usize, R)>| {
        for (place, one) in done {
            if let Some(slot) = made.get_mut(place) {
                *slot = Some(one);
            }
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).filter_map(|_| Builder::new().spawn_scoped(scope, take).ok()).collect();
        keep(take());
        for other in others {
            keep(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    made.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn the_order_stays_and_a_run_is_worth_a_thread() {
        for (size, worth) in [(0, 1), (1, 1), (7, 2), (7, 100), (1_000, 1), (3, 0)] {
            let items: Vec<usize> = (0..size).collect();
            let runs = spread(&items, worth, <[usize]>::to_vec);
            assert!(runs.len() < 2 || runs.iter().rev().skip(1).all(|run| run.len() >= worth), "{runs:?}");
            assert_eq!(runs.concat(), items, "{size} {worth}");
        }
    }

    #[test]
    #[should_panic(expected = "at 9")]
    fn a_panic_in_a_run_goes_on() {
        spread(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 1, |run| assert!(!run.contains(&9), "at 9"));
    }
}
