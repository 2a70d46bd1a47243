//! Groups of rows that must stay together.

use std::collections::BTreeSet;

use hamflow_stage_api::Digest;

/// Rows that must stay together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    /// The alphabetically first name in the group, which does not depend on the order of the rows.
    pub name: &'a str,
    /// The indices of its classes with their row counts, sorted.
    pub classes: Vec<(usize, usize)>,
}

impl Group<'_> {
    /// The number of rows.
    pub fn size(&self) -> usize {
        self.classes.iter().map(|(_, n)| n).sum()
    }
}

/// A partition of all rows of a table into groups.
#[derive(Debug)]
pub struct Groups<'a> {
    /// The groups, sorted by name.
    pub groups: Vec<Group<'a>>,
    /// The group index of each row.
    pub of_row: Vec<usize>,
    /// The number of distinct names; equal to the number of groups unless some share an image.
    pub names: usize,
    /// The index of each row's name.
    pub name_of_row: Vec<usize>,
    /// The class names, sorted.
    pub classes: Vec<&'a str>,
    /// The class index of each row.
    pub class_of_row: Vec<usize>,
    /// The rows of each image that occurs more than once.
    pub identical: Vec<Vec<usize>>,
}

impl<'a> Groups<'a> {
    /// Groups rows by name, and joins names that share an image.
    pub fn new(names: &'a [String], classes: &'a [String], digests: Option<&[Digest]>) -> Self {
        let (distinct, name_of_row) = numbered(names);
        let class_names: Vec<&str> = classes.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect();
        let number = |class: &String| class_names.binary_search(&class.as_str()).expect("every class was collected");
        let class_of_row: Vec<usize> = classes.iter().map(number).collect();

        let identical = identical(digests.unwrap_or_default());
        let mut parents = Parents((0..distinct.len()).collect());
        for rows in &identical {
            for pair in rows.windows(2) {
                parents.join(name_of_row[pair[0]], name_of_row[pair[1]]);
            }
        }

        // A root is the smallest index of its tree, so groups are sorted by their first name.
        let mut groups: Vec<Group> = Vec::with_capacity(distinct.len());
        let mut group_of_name = vec![0; distinct.len()];
        for (number, name) in distinct.iter().enumerate() {
            let root = parents.root(number);
            group_of_name[number] = if root == number {
                groups.push(Group { name, classes: Vec::with_capacity(1) });
                groups.len() - 1
            } else {
                group_of_name[root]
            };
        }
        let of_row: Vec<usize> = name_of_row.iter().map(|&number| group_of_name[number]).collect();
        for (&group, &class) in of_row.iter().zip(&class_of_row) {
            let counts = &mut groups[group].classes;
            match counts.binary_search_by_key(&class, |(class, _)| *class) {
                Ok(at) => counts[at].1 += 1,
                Err(at) => counts.insert(at, (class, 1)),
            }
        }
        Self { groups, of_row, names: distinct.len(), name_of_row, classes: class_names, class_of_row, identical }
    }

    /// Expands a value per group to a value per row.
    pub fn per_row<T: Copy>(&self, per_group: &[T]) -> Vec<T> {
        self.of_row.iter().map(|&group| per_group[group]).collect()
    }
}

/// The distinct names, sorted, and the index of each row's name among them.
fn numbered(names: &[String]) -> (Vec<&str>, Vec<usize>) {
    let mut rows: Vec<(&str, usize)> = names.iter().map(String::as_str).zip(0..).collect();
    rows.sort_unstable();
    let (mut distinct, mut number_of_row) = (Vec::new(), vec![0; names.len()]);
    for (name, row) in rows {
        if distinct.last() != Some(&name) {
            distinct.push(name);
        }
        number_of_row[row] = distinct.len() - 1;
    }
    (distinct, number_of_row)
}

/// The rows of each digest that occurs more than once.
fn identical(digests: &[Digest]) -> Vec<Vec<usize>> {
    let mut rows: Vec<(&Digest, usize)> = digests.iter().zip(0..).collect();
    rows.sort_unstable();
    let sets = rows.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1);
    sets.map(|same| same.iter().map(|(_, row)| *row).collect()).collect()
}

/// A union-find forest in which each root is the smallest element of its tree.
struct Parents(Vec<usize>);

impl Parents {
    fn root(&mut self, mut number: usize) -> usize {
        while self.0[number] != number {
            self.0[number] = self.0[self.0[number]];
            number = self.0[number];
        }
        number
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &str) -> Vec<String> {
        words.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn names_that_share_an_image_become_one_group() {
        let (names, classes) = (texts("c a b d a c"), texts("x x y x x x"));
        let digests: Vec<Digest> = ["1", "2", "3", "4", "3", "1"].iter().map(|d| Digest::of(d.as_bytes())).collect();
        let groups = Groups::new(&names, &classes, Some(&digests));
        let named: Vec<&str> = groups.groups.iter().map(|group| group.name).collect();
        assert_eq!(named, ["a", "c", "d"]);
        assert_eq!(groups.of_row, [1, 0, 0, 2, 0, 1]);
        assert_eq!(groups.names, 4);
        assert_eq!(groups.groups[0].classes, [(0, 2), (1, 1)]);
    }

    #[test]
    fn chains_of_shared_images_are_joined() {
        let names = texts("a b b c c d");
        let digests: Vec<Digest> = ["1", "1", "2", "2", "3", "3"].iter().map(|d| Digest::of(d.as_bytes())).collect();
        let classes = texts("x x x x x x");
        let groups = Groups::new(&names, &classes, Some(&digests));
        assert_eq!(groups.groups.len(), 1);
        assert_eq!(groups.groups[0].size(), 6);
    }
}
