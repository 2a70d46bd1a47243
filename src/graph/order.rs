//! Topological order and cycle detection.

use std::collections::BTreeSet;

/// Sorts the nodes topologically; ties are in numerical order. Returns `None` if there is a cycle.
pub(crate) fn topological(dependencies: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let dependents = reversed(dependencies);
    let mut waiting: Vec<usize> = dependencies.iter().map(BTreeSet::len).collect();
    let mut ready: BTreeSet<usize> = (0..dependencies.len()).filter(|&node| waiting[node] == 0).collect();
    let mut order = Vec::with_capacity(dependencies.len());
    while let Some(node) = ready.pop_first() {
        order.push(node);
        for &dependent in &dependents[node] {
            waiting[dependent] -= 1;
            if waiting[dependent] == 0 {
                ready.insert(dependent);
            }
        }
    }
    (order.len() == dependencies.len()).then_some(order)
}

/// Reverses all edges.
pub(crate) fn reversed(dependencies: &[BTreeSet<usize>]) -> Vec<BTreeSet<usize>> {
    let mut dependents = vec![BTreeSet::new(); dependencies.len()];
    for (node, dependencies) in dependencies.iter().enumerate() {
        for &dependency in dependencies {
            dependents[dependency].insert(node);
        }
    }
    dependents
}

/// `start` and everything reachable from it.
pub(crate) fn closure(edges: &[BTreeSet<usize>], start: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::from([start]);
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        open.extend(edges[node].iter().copied().filter(|&next| reached.insert(next)));
    }
    reached
}

/// Finds cycles, each as a shortest path in the direction of the data from its lowest node back to itself: `[a, b, a]`.
///
/// Cycles that share a node with one found earlier are omitted; they show up once that one is fixed.
pub(crate) fn cycles(dependencies: &[BTreeSet<usize>]) -> Vec<Vec<usize>> {
    let dependents = reversed(dependencies);
    let mut found: Vec<Vec<usize>> = Vec::new();
    for start in 0..dependencies.len() {
        if found.iter().any(|cycle| cycle.contains(&start)) {
            continue;
        }
        if let Some(cycle) = shortest_cycle(&dependents, start)
            && !cycle.iter().any(|node| found.iter().any(|other| other.contains(node)))
        {
            found.push(cycle);
        }
    }
    found
}

fn shortest_cycle(dependents: &[BTreeSet<usize>], start: usize) -> Option<Vec<usize>> {
    let mut previous: Vec<Option<usize>> = vec![None; dependents.len()];
    let mut open = std::collections::VecDeque::from([start]);
    while let Some(node) = open.pop_front() {
        for &next in &dependents[node] {
            if next == start {
                let mut cycle = vec![start, node];
                let mut at = node;
                while let Some(before) = previous[at] {
                    cycle.push(before);
                    at = before;
                }
                // A self-loop has no intermediate nodes.
                if node == start {
                    return Some(vec![start, start]);
                }
                cycle.reverse();
                return Some(cycle);
            }
            if previous[next].is_none() {
                previous[next] = Some(node);
                open.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use hamflow_stage_api::Random;

    use super::*;

    /// A graph whose edges go from lower to higher positions of a random order, so that it has no cycle.
    fn random_dag(random: &mut Random) -> Vec<BTreeSet<usize>> {
        let count = 1 + random.below(30) as usize;
        let density = random.unit();
        let mut places: Vec<usize> = (0..count).collect();
        random.shuffle(&mut places);
        let mut dependencies = vec![BTreeSet::new(); count];
        for later in 0..count {
            for earlier in 0..later {
                if random.unit() < density {
                    dependencies[places[later]].insert(places[earlier]);
                }
            }
        }
        dependencies
    }

    #[test]
    fn the_order_of_any_acyclic_graph_is_topological() {
        let mut random = Random::new(1, "topological order");
        for _ in 0..500 {
            let dependencies = random_dag(&mut random);
            let order = topological(&dependencies).unwrap();
            let mut place = vec![0; order.len()];
            for (at, &node) in order.iter().enumerate() {
                place[node] = at;
            }
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..dependencies.len()), "every node once");
            for (node, dependencies) in dependencies.iter().enumerate() {
                assert!(dependencies.iter().all(|&dependency| place[dependency] < place[node]));
            }
            // Ties are in numerical order: a node directly after a higher one must depend on it.
            for pair in order.windows(2) {
                assert!(pair[0] < pair[1] || dependencies[pair[1]].contains(&pair[0]));
            }
            assert!(cycles(&dependencies).is_empty());
        }
    }

    #[test]
    fn an_edge_that_closes_a_cycle_is_found() {
        let mut random = Random::new(2, "cycles");
        let mut closed = 0;
        for _ in 0..300 {
            let mut dependencies = random_dag(&mut random);
            let node = random.below(dependencies.len() as u64) as usize;
            let above: Vec<usize> = closure(&dependencies, node).into_iter().collect();
            let target = above[random.below(above.len() as u64) as usize];
            dependencies[target].insert(node);
            assert_eq!(topological(&dependencies), None);
            let cycles = cycles(&dependencies);
            assert!(!cycles.is_empty());
            for cycle in &cycles {
                assert_eq!(cycle.first(), cycle.last());
                assert!(cycle.windows(2).all(|pair| dependencies[pair[1]].contains(&pair[0])), "{cycle:?}");
                let distinct: BTreeSet<&usize> = cycle.iter().collect();
                assert_eq!(distinct.len(), cycle.len() - 1);
            }
            closed += 1;
        }
        assert_eq!(closed, 300);
    }

    #[test]
    fn a_cycle_starts_at_its_lowest_node_and_follows_the_data() {
        let set = |nodes: &[usize]| nodes.iter().copied().collect::<BTreeSet<_>>();
        // 1 reads 3, 2 reads 1, 3 reads 2; 0 reads itself; 4 reads 3.
        let dependencies = [set(&[0]), set(&[3]), set(&[1]), set(&[2]), set(&[3])];
        assert_eq!(cycles(&dependencies), [vec![0, 0], vec![1, 2, 3, 1]]);
    }
}
