//! Parallel iteration with threads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The available parallelism. It is cached, since determining it opens several files of the system.
pub fn available() -> usize {
    static AVAILABLE: OnceLock<usize> = OnceLock::new();
    *AVAILABLE.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Maps `work` over the items on up to `threads` threads, each of which takes `chunk` items at a time. Results are in the order of the
/// items. After an error no further chunks are started, and one of the errors is returned.
pub fn each<T: Sync, R: Send, E: Send>(
    items: &[T],
    threads: usize,
    chunk: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let share = || -> Result<Vec<(usize, Vec<R>)>, E> {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let start = next.fetch_add(chunk, Ordering::Relaxed);
            let Some(rest) = items.get(start..).filter(|rest| !rest.is_empty()) else { break };
            let made = rest[..rest.len().min(chunk)].iter().map(&work).collect::<Result<Vec<R>, E>>();
            done.push((start, made.inspect_err(|_| failed.store(true, Ordering::Relaxed))?));
        }
        Ok(done)
    };
    let threads = threads.min(items.len().div_ceil(chunk));
    let done = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(share)).collect();
        let own = share();
        let helped = helpers.into_iter().map(|helper| helper.join().expect("work on an item does not panic"));
        helped.chain([own]).collect::<Result<Vec<_>, E>>()
    })?;
    let mut done: Vec<(usize, Vec<R>)> = done.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(start, _)| *start);
    Ok(done.into_iter().flat_map(|(_, made)| made).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_for_any_number_of_threads() {
        let items: Vec<u32> = (0..1000).collect();
        for (threads, chunk) in [(1, 1), (2, 7), (7, 64), (3, 5000)] {
            let doubled = each(&items, threads, chunk, |item| Ok::<_, ()>(item * 2));
            assert_eq!(doubled, Ok((0..1000).map(|item| item * 2).collect()), "{threads} {chunk}");
        }
        assert_eq!(each(&[] as &[u32], 4, 1, |item| Ok::<_, ()>(*item)), Ok(Vec::new()));
    }

    #[test]
    fn an_error_stops_the_iteration() {
        let items: Vec<usize> = (0..10_000).collect();
        let begun = AtomicUsize::new(0);
        let result = each(&items, 4, 1, |item| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *item == 3 { Err(*item) } else { Ok(()) }
        });
        assert_eq!(result, Err(3));
        assert!(begun.into_inner() < items.len(), "the remaining items were skipped");
    }
}
