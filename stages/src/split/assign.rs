//! Spreads groups over sides so that every class is divided in the wanted fractions.

use std::cmp::Reverse;

use hamflow_stage_api::Random;

use super::groups::Groups;

/// The side of each group, in the order of [`Groups::groups`]; `fractions` has one entry per side.
///
/// Groups of one class go class by class, the larger ones first, in a random order among equals, each to the side that
/// lacks most rows measured against its share of what went before it. So every side gets its share of large groups as well
/// as of small ones. Groups with contradicting classes come first, because the others can then make up for them. Last,
/// groups move while that brings a class closer to its fractions.
///
/// Groups that `only` leaves out get side 0 and count for nothing.
pub fn assign(groups: &Groups<'_>, only: Option<&[bool]>, fractions: &[f64], random: &mut Random) -> Vec<usize> {
    let order = order(groups, only, random);
    let mut state = State {
        groups,
        fractions,
        side: vec![0; groups.groups.len()],
        rows: vec![vec![0; fractions.len()]; groups.classes.len()],
    };
    let (mixed, pure): (Vec<usize>, Vec<usize>) =
        order.into_iter().partition(|&group| groups.groups[group].classes.len() > 1);
    for group in mixed {
        state.place(group);
    }
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); groups.classes.len()];
    for group in pure {
        for &(class, _) in &groups.groups[group].classes {
            by_class[class].push(group);
        }
    }
    for (class, members) in by_class.iter().enumerate() {
        for &group in members {
            state.place(group);
        }
        state.settle(class, members);
    }
    state.side
}

/// The larger groups first; among equals by a keyed hash of the name, so that another group changes no one's place.
fn order(groups: &Groups<'_>, only: Option<&[bool]>, random: &mut Random) -> Vec<usize> {
    let mut key = [0; 32];
    for bytes in key.as_chunks_mut::<8>().0 {
        *bytes = random.next_u64().to_le_bytes();
    }
    let mut ranked: Vec<(Reverse<usize>, [u8; 32], usize)> = groups
        .groups
        .iter()
        .enumerate()
        .filter(|(index, _)| only.is_none_or(|only| only[*index]))
        .map(|(index, group)| {
            let rank = *blake3::keyed_hash(&key, group.name.as_bytes()).as_bytes();
            (Reverse(group.size()), rank, index)
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, _, index)| index).collect()
}

struct State<'a> {
    groups: &'a Groups<'a>,
    fractions: &'a [f64],
    side: Vec<usize>,
    /// Rows by class and side.
    rows: Vec<Vec<usize>>,
}

impl State<'_> {
    /// Puts a group where its classes lack most rows, were it dealt out in the wanted fractions.
    fn place(&mut self, group: usize) {
        let classes = &self.groups.groups[group].classes;
        let lack = |side: usize| -> f64 {
            classes
                .iter()
                .map(|&(class, n)| {
                    let seen = self.rows[class].iter().sum::<usize>() + n;
                    n as f64 * (self.fractions[side] * seen as f64 - self.rows[class][side] as f64)
                })
                .sum()
        };
        // A side without a fraction gets nothing; the first of equals wins.
        let open = (0..self.fractions.len()).filter(|&side| self.fractions[side] > 0.0);
        let best = open.map(|side| (lack(side), side)).reduce(|best, next| if next.0 > best.0 { next } else { best });
        let (_, side) = best.expect("fractions sum to 1, so one is above 0");
        self.side[group] = side;
        for &(class, n) in classes {
            self.rows[class][side] += n;
        }
    }

    /// Moves groups of one class from side to side while that lowers the squared distances from the fractions.
    fn settle(&mut self, class: usize, members: &[usize]) {
        let total: usize = self.rows[class].iter().sum();
        // The smallest come last: they are what fits.
        let mut candidates: Vec<Vec<usize>> = vec![Vec::new(); self.fractions.len()];
        for &group in members {
            candidates[self.side[group]].push(group);
        }
        // Each move lowers the distance, so this ends; dealing leaves few moves to make.
        loop {
            let excess: Vec<f64> = (0..self.fractions.len())
                .map(|side| self.rows[class][side] as f64 - self.fractions[side] * total as f64)
                .collect();
            let open = || (0..excess.len()).filter(|&side| self.fractions[side] > 0.0);
            let most = open().reduce(|best, next| if excess[next] > excess[best] { next } else { best });
            let least = open().reduce(|best, next| if excess[next] < excess[best] { next } else { best });
            let (Some(from), Some(to)) = (most, least) else { return };
            let Some(&group) = candidates[from].last() else { return };
            let size = self.groups.groups[group].size();
            if from == to || size as f64 >= excess[from] - excess[to] {
                return;
            }
            candidates[from].pop();
            candidates[to].push(group);
            self.side[group] = to;
            self.rows[class][from] -= size;
            self.rows[class][to] += size;
        }
    }
}
