//! Finds out which file of a submission is which file of the tree, however it was packed: with extra directories in
//! front, without the directories that lead to it, or with an addition to its name. Only files that students may change
//! are searched in this way. If there is a choice, the grader does not guess.

use crate::names::{self, Kind};
use crate::permitted::Permitted;
use crate::unpack::{Files, Refusal, Refused, Use};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The files of which submissions may consist.
pub struct Wanted<'a> {
    /// The files of the reference.
    pub reference: &'a Files,
    permitted: &'a Permitted,
    /// Submissions are changes: files that they lack are the reference's.
    partial: bool,
    /// The paths of the reference, by file name in lower case.
    by_name: HashMap<String, Vec<&'a str>>,
}

/// A path of a submission, and its common part with a path of the tree.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Match {
    /// The path in the tree.
    target: String,
    /// How many path components they share, counted from the end.
    shared: usize,
    /// Whether the whole path in the tree is the end of the path in the submission.
    is_whole: bool,
    /// Whether upper and lower case agree, too.
    is_exact: bool,
    /// The part of the path before the common part.
    front: String,
}

/// The placed files of a submission.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The files, by their paths in the tree.
    pub files: Files,
    /// Files that were read as another one, where that is not obvious.
    pub read_as: Vec<String>,
    /// Files that were left out, with the reason.
    pub left_out: Vec<String>,
    /// Paths in the tree with more than one candidate.
    pub unclear: Vec<String>,
}

/// The reason for leaving out a file that matches nothing.
const NOTHING: &str = "no file that may be changed has this name";

/// The candidates for each path in the tree: their paths in the submission.
type Candidates<'f> = BTreeMap<String, Vec<(&'f str, Match)>>;

impl<'a> Wanted<'a> {
    /// The files that may be handed in for this reference.
    #[must_use]
    pub fn new(reference: &'a Files, permitted: &'a Permitted, partial: bool) -> Wanted<'a> {
        let mut by_name: HashMap<String, Vec<&str>> = HashMap::new();
        for path in reference.keys() {
            by_name.entry(file_name(path).to_ascii_lowercase()).or_default().push(path);
        }
        Wanted { reference, permitted, partial, by_name }
    }

    /// What to do with a path of a submission.
    #[must_use]
    pub fn use_of(&self, path: &str) -> Use {
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| names::made(part).is_some()) || self.is_built(&parts) {
            return Use::Skip;
        }
        let name = file_name(path);
        let kind = Kind::by_name(name).map(|(_, kind)| kind);
        let is_known = self.by_name.contains_key(&name.to_ascii_lowercase());
        match kind {
            Some(kind) if kind.is_archive() => Use::Open,
            Some(Kind::Source | Kind::Patch) => Use::Keep,
            _ if is_known || self.permitted_end(&parts).is_some() => Use::Keep,
            _ => Use::Pass,
        }
    }

    /// Whether the path is in a directory that cargo has made, and not in a module of that name.
    fn is_built(&self, parts: &[&str]) -> bool {
        let Some(at) = parts.iter().position(|part| *part == "target") else { return false };
        let below = |start: usize| format!("{}/x.rs", parts[start..].join("/"));
        !(0..at).any(|start| self.permitted.allows(&below(start)) || self.permitted.allows(&parts[start..].join("/")))
    }

    /// The longest end of a path that students may hand in.
    fn permitted_end(&self, parts: &[&str]) -> Option<(usize, String)> {
        (0..parts.len()).map(|at| (at, parts[at..].join("/"))).find(|(_, end)| self.permitted.allows(end))
    }

    /// The files of the reference that students may change.
    pub fn changeable(&self) -> impl Iterator<Item = &'a str> {
        self.reference.keys().map(String::as_str).filter(|path| self.permitted.allows(path))
    }

    /// Whether a file that students may change has this name, possibly with an addition.
    #[must_use]
    pub fn is_name(&self, name: &str) -> bool {
        let original = names::original(name).unwrap_or_else(|| name.to_owned());
        self.changeable().any(|path| file_name(path).eq_ignore_ascii_case(&original))
    }

    /// All paths in the tree that share the most components with this one.
    fn matches(&self, path: &str) -> Vec<Match> {
        let parts: Vec<&str> = path.split('/').collect();
        let known = self.by_name.get(&file_name(path).to_ascii_lowercase()).into_iter().flatten();
        let mut found: Vec<Match> = known.map(|target| common(&parts, target)).collect();
        if let Some((_, end)) = self.permitted_end(&parts).filter(|(_, end)| !self.reference.contains_key(end)) {
            found.push(common(&parts, &end));
        }
        let most = found.iter().map(|one| one.shared).max();
        found.retain(|one| Some(one.shared) == most);
        found
    }

    /// The path in the tree that this path means, or the reason why there is none.
    fn best(&self, path: &str, roots: &BTreeSet<String>) -> Result<Match, String> {
        let found = self.matches(path);
        if let Some(one) = found.iter().find(|one| one.is_whole && roots.contains(&one.front)) {
            return Ok(one.clone());
        }
        let permitted: Vec<&Match> = found.iter().filter(|one| self.permitted.allows(&one.target)).collect();
        match permitted[..] {
            [one] => Ok(one.clone()),
            [] => match (found.iter().find(|one| one.is_whole), &found[..]) {
                (Some(one), _) => Ok(one.clone()),
                (None, [one]) => Err(format!("{} may not be changed", one.target)),
                (None, _) => Err(NOTHING.to_owned()),
            },
            _ => {
                let targets: Vec<&str> = permitted.iter().map(|one| one.target.as_str()).collect();
                Err(format!("it could be any of {}: put it into its directory", targets.join(", ")))
            }
        }
    }

    /// The roots of trees: prefixes of at least one file that is in a directory.
    fn roots<'f>(&self, paths: impl Iterator<Item = &'f str>) -> BTreeSet<String> {
        let matches = paths.flat_map(|path| self.matches(path));
        matches.filter(|one| one.is_whole && one.target.contains('/')).map(|one| one.front).collect()
    }

    /// Assigns files to paths. If `is_single`, the submission is a single file, whatever its name.
    #[must_use]
    pub fn place(&self, found: &Files, is_single: bool) -> Placed {
        let roots = self.roots(found.keys().map(String::as_str));
        let mut placed = Placed::default();
        let mut all = Candidates::new();
        let mut lost: Vec<(&str, String)> = Vec::new();
        for path in found.keys() {
            match self.best(path, &roots) {
                Ok(one) => all.entry(one.target.clone()).or_default().push((path, one)),
                Err(why) => lost.push((path, why)),
            }
        }
        self.add_renamed(&mut all, &mut lost);
        let changeable: Vec<&str> = self.changeable().collect();
        if let ([target], [path], true, true) =
            (&changeable[..], &found.keys().collect::<Vec<_>>()[..], all.is_empty(), is_single)
        {
            let parts: Vec<&str> = path.split('/').collect();
            all.insert((*target).to_owned(), vec![(path, common(&parts, target))]);
            lost.clear();
        }
        let mut trees = BTreeSet::new();
        for (target, candidates) in all {
            if self.permitted.allows(&target) {
                placed.choose(target, candidates, found, &mut trees);
            } else {
                // Kept only to report that it is different.
                let path = candidates.iter().min_by_key(|(_, one)| one.front.len()).map_or("", |(path, _)| path);
                placed.files.insert(target, found[path].clone());
            }
        }
        placed.unclear.extend(self.in_the_way(&placed.files));
        let tree = |front: &String| format!("read as the whole tree: {front}/");
        placed.read_as.splice(0..0, trees.iter().filter(|front| !front.is_empty()).map(tree));
        for (path, why) in lost {
            if is_source(path) {
                placed.left_out.push(format!("{path}: {why}"));
            }
        }
        placed
    }

    /// Files, of the reference or of the submission, where the paths of others need directories.
    fn in_the_way(&self, files: &Files) -> Vec<String> {
        let is_there = |path: &str| files.contains_key(path) || self.reference.contains_key(path);
        let mut found = Vec::new();
        for path in files.keys().filter(|path| !self.reference.contains_key(*path)) {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]).find(|above| is_there(above));
            found.extend(above.map(|above| format!("{path}: {above} is a file, not a directory")));
            let front = format!("{path}/");
            let below = self.reference.range(front.clone()..).next().filter(|(below, _)| below.starts_with(&front));
            found.extend(below.map(|(below, _)| format!("{below}: {path} is a file, not a directory")));
        }
        found
    }

    /// Adds files with an addition to their names, for paths that no file matches exactly.
    fn add_renamed<'f>(&self, all: &mut Candidates<'f>, lost: &mut Vec<(&'f str, String)>) {
        let mut renamed = Candidates::new();
        // New files of such names may be permitted, too.
        let new = all.iter().filter(|(target, _)| !self.reference.contains_key(*target));
        let new = new.flat_map(|(_, candidates)| candidates.iter().map(|(path, _)| *path));
        for path in lost.iter().map(|(path, _)| *path).chain(new) {
            let Some(original) = names::original(path) else { continue };
            if let Ok(one) = self.best(&original, &BTreeSet::new())
                && self.reference.contains_key(&one.target)
                && self.permitted.allows(&one.target)
            {
                renamed.entry(one.target.clone()).or_default().push((path, Match { is_exact: false, ..one }));
            }
        }
        for (target, candidates) in renamed {
            let is_there = all.contains_key(&target);
            for (path, _) in &candidates {
                lost.retain(|(other, _)| other != path);
                if is_there {
                    lost.push((path, format!("there is a file with the name {target}")));
                }
            }
            if !is_there {
                all.values_mut().for_each(|known| {
                    known.retain(|(path, _)| !candidates.iter().any(|(other, _)| other == path));
                });
                all.insert(target, candidates);
            }
        }
        all.retain(|_, candidates| !candidates.is_empty());
    }

    /// The reason why a submission cannot be graded, if there is one: a missing file was refused or cannot be read, or
    /// there are no files.
    #[must_use]
    pub(crate) fn blocked(&self, placed: &Placed, refused: &[Refusal]) -> Option<(Refused, Vec<String>)> {
        let missing: Vec<&str> = self.changeable().filter(|path| !placed.files.contains_key(*path)).collect();
        let hides = |refusal: &&Refusal| {
            let meant = refusal.path.replace('\\', "/").replace("../", "");
            refusal.what == Refused::Archive
                || Kind::by_name(file_name(&meant)).is_some_and(|(_, kind)| kind.is_archive())
                || self.best(&meant, &BTreeSet::new()).is_ok_and(|one| missing.contains(&&*one.target))
                || !meant.contains('.') && refusal.what == Refused::Unreadable
        };
        let hiding: Vec<&Refusal> = refused.iter().filter(hides).collect();
        if missing.is_empty() || hiding.is_empty() {
            return None;
        }
        let is_unreadable = hiding.iter().all(|refusal| refusal.what == Refused::Unreadable);
        let why = hiding.iter().map(|refusal| format!("{}: {}", refusal.path, refusal.why)).collect();
        Some((if is_unreadable { Refused::Unreadable } else { Refused::File }, why))
    }

    /// Whether missing files are the reference's.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Whether students may change this file.
    #[must_use]
    pub fn allows(&self, path: &str) -> bool {
        self.permitted.allows(path)
    }
}

impl Placed {
    /// Chooses the file for a path that students may change from these candidates.
    fn choose(
        &mut self,
        target: String,
        mut candidates: Vec<(&str, Match)>,
        found: &Files,
        trees: &mut BTreeSet<String>,
    ) {
        let rank = |one: &Match| (std::cmp::Reverse(one.shared), !one.is_exact, one.front.matches('/').count());
        candidates
            .sort_by(|(a, one), (b, other)| (rank(one), one.front.len(), a).cmp(&(rank(other), other.front.len(), b)));
        let (first, one) = candidates[0].clone();
        let is_rival = |other: &Match| (other.shared, other.is_exact) == (one.shared, one.is_exact);
        let is_below = |other: &Match| one.front.is_empty() || other.front.starts_with(&format!("{}/", one.front));
        let differ = candidates.iter().filter(|(path, _)| found[*path] != found[first]);
        let (rivals, others): (Vec<_>, Vec<_>) =
            differ.partition(|(_, other)| is_rival(other) && (other.front == one.front || !is_below(other)));
        if !rivals.is_empty() {
            let paths: Vec<&str> = [first].into_iter().chain(rivals.iter().map(|(path, _)| *path)).collect();
            self.unclear.push(format!("{target}: there are several, and they differ: {}", paths.join(", ")));
            return;
        }
        for (path, _) in others {
            self.left_out.push(format!("{path}: another {target} is there, and differs: {first}"));
        }
        if one.is_whole && one.is_exact {
            trees.insert(one.front);
        } else {
            self.read_as.push(format!("read as {target}: {first}"));
        }
        let data = utf8(&found[first]).map(|text| {
            self.read_as.push(format!("read as UTF-8: {first}, which is UTF-16"));
            text.into_bytes()
        });
        self.files.insert(target, data.unwrap_or_else(|| found[first].clone()));
    }
}

/// The text as UTF-8, if it is marked as UTF-16, which some editors for Windows write.
#[must_use]
pub fn utf8(data: &[u8]) -> Option<String> {
    let unit: fn([u8; 2]) -> u16 = match data {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return None,
    };
    let units = data[2..].chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).collect::<Result<String, _>>().ok()
}

/// The common part of a path and one of the tree.
fn common(parts: &[&str], target: &str) -> Match {
    let wanted: Vec<&str> = target.split('/').collect();
    let pairs = || parts.iter().rev().zip(wanted.iter().rev());
    let shared = pairs().take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let is_exact = pairs().take(shared).all(|(a, b)| a == b);
    Match {
        target: target.to_owned(),
        shared,
        is_whole: shared == wanted.len(),
        is_exact,
        front: parts[..parts.len() - shared].join("/"),
    }
}

/// Whether this is the path of a patch.
#[must_use]
pub fn is_patch(path: &str) -> bool {
    matches!(Kind::by_name(file_name(path)), Some((_, Kind::Patch)))
}

/// Whether this is the path of a source file.
#[must_use]
pub fn is_source(path: &str) -> bool {
    matches!(Kind::by_name(file_name(path)), Some((_, Kind::Source)))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
