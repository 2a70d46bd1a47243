//! Work on many items at the same time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many threads the machine runs at the same time, as it was when the program first asked: the question itself opens half
/// a dozen files of the system.
pub fn available() -> usize {
    static AVAILABLE: OnceLock<usize> = OnceLock::new();
    *AVAILABLE.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Does `work` on every item, on at most `threads` threads, each of which takes `chunk` items at a time; the results are in
/// the order of the items. After an error no thread takes more, and one of the errors is returned.
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
    fn results_stand_in_the_order_of_the_items_for_any_number_of_threads() {
        let items: Vec<u32> = (0..1000).collect();
        for (threads, chunk) in [(1, 1), (2, 7), (7, 64), (3, 5000)] {
            let doubled = each(&items, threads, chunk, |item| Ok::<_, ()>(item * 2));
            assert_eq!(doubled, Ok((0..1000).map(|item| item * 2).collect()), "{threads} {chunk}");
        }
        assert_eq!(each(&[] as &[u32], 4, 1, |item| Ok::<_, ()>(*item)), Ok(Vec::new()));
    }

    #[test]
    fn an_error_ends_the_work() {
        let items: Vec<usize> = (0..10_000).collect();
        let begun = AtomicUsize::new(0);
        let result = each(&items, 4, 1, |item| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *item == 3 { Err(*item) } else { Ok(()) }
        });
        assert_eq!(result, Err(3));
        assert!(begun.into_inner() < items.len(), "nobody went on to the end");
    }
}
