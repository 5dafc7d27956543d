//! A long list, worked through in runs: one for each processor, where that pays.

use std::io;
use std::panic::resume_unwind;
use std::thread::{self, Builder, Scope, ScopedJoinHandle, available_parallelism};

/// What `work` makes of each run of `items`, in their order; a panic in it goes on here. A run has at least `worth` items: fewer take longer
/// than a thread to start. Where the system has no thread to give, the caller's does it all.
pub(crate) fn spread<T: Sync, R: Send>(items: &[T], worth: usize, work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = available_parallelism().map_or(1, usize::from).min(items.len() / worth.max(1)).max(1);
    let mut runs = items.chunks(items.len().div_ceil(threads).max(1));
    let Some(first) = runs.next() else { return Vec::new() };
    let work = &work;
    thread::scope(|scope| {
        let others: Vec<_> = runs.map(|run| (run, start(scope, move || work(run)))).collect();
        let mine = work(first);
        let others = others.into_iter().map(|(run, other)| match other {
            Ok(other) => other.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => work(run),
        });
        std::iter::once(mine).chain(others).collect()
    })
}

fn start<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> R + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, R>> {
    Builder::new().spawn_scoped(scope, work)
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
