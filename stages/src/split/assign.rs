//! Distributes groups over splits or folds so that every class is divided in the requested fractions.

use std::cmp::Reverse;

use hamflow_stage_api::Random;

use super::groups::Groups;

/// Assigns a side (split or fold) to each group, in the order of [`Groups::groups`]; `fractions` has one entry per side.
///
/// Groups of one class are assigned class by class, larger ones first, in a random order among groups of equal size.
/// Each goes to the side with the largest deficit relative to its share of the rows assigned so far, so that every
/// side gets its share of large and small groups. Groups with contradictory classes are assigned first, because the
/// others can compensate for them. Finally, groups are moved while that brings a class closer to its fractions.
///
/// Groups excluded by `only` get side 0 and are not counted.
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

/// Sorts by decreasing size; ties by a keyed hash of the name, so that an added group does not change the order of
/// the others.
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
    /// Row counts by class and side.
    rows: Vec<Vec<usize>>,
}

impl State<'_> {
    /// Assigns a group to the side whose deficit in the group's classes is largest.
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
        // A side with fraction 0 gets nothing; the first side wins a tie.
        let open = (0..self.fractions.len()).filter(|&side| self.fractions[side] > 0.0);
        let best = open.map(|side| (lack(side), side)).reduce(|best, next| if next.0 > best.0 { next } else { best });
        let (_, side) = best.expect("fractions sum to 1, so one is greater than 0");
        self.side[group] = side;
        for &(class, n) in classes {
            self.rows[class][side] += n;
        }
    }

    /// Moves groups of one class between sides while that lowers the squared distance from the fractions.
    fn settle(&mut self, class: usize, members: &[usize]) {
        let total: usize = self.rows[class].iter().sum();
        // The smallest groups come last: they are the ones that fit.
        let mut candidates: Vec<Vec<usize>> = vec![Vec::new(); self.fractions.len()];
        for &group in members {
            candidates[self.side[group]].push(group);
        }
        // Each move lowers the distance, so this terminates. After the assignment, few moves remain.
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
