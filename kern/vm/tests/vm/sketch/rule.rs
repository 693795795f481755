//! The parts of the rule for shared tables, each with a switch.

/// The parts of the rule.
#[derive(Clone, Copy)]
pub struct Rule {
    /// A page map that shares a table can write nothing below any more.
    pub granting_takes_w: bool,
    /// The page map that gets the table cannot write below it.
    pub accepting_without_w: bool,
    /// Nothing below a shared table can be changed.
    pub closed: bool,
    /// A page below a shared table cannot be granted for writing.
    pub no_writable_grant: bool,
    /// Nobody can make a page below a shared table private, even if it has one reference.
    pub no_own_below: bool,
    /// After a copy of a table, tables below have two users: the entries in the copy lose W.
    pub copy_takes_w: bool,
    /// The entries in the old table lose W, too: W means that a table can be given up without checking for other
    /// users.
    pub copy_takes_w_there: bool,
    /// After a copy of a table, pages below have two users. (The old table need not show it. The page map that keeps
    /// it in the end looks at every page.)
    pub copy_lowers: bool,
    /// A page with two users cannot be made writable any more: two could do so.
    pub lowers_may: bool,
    /// The last page map that has a table may have got it from others: the tables below belong to them, too.
    pub keep_takes_w: bool,
    /// The pages below belong to the others, too.
    pub keep_lowers: bool,
    /// A page map that removes a shared table, or ends, leaves the table to the others.
    pub leaves_to_others: bool,
}

pub const RULE: Rule = Rule {
    granting_takes_w: true,
    accepting_without_w: true,
    closed: true,
    no_writable_grant: true,
    no_own_below: true,
    copy_takes_w: true,
    copy_takes_w_there: true,
    copy_lowers: true,
    lowers_may: true,
    keep_takes_w: true,
    keep_lowers: true,
    leaves_to_others: true,
};

/// The rule without one of its parts, by name.
pub fn broken_rules() -> [(&'static str, Rule); 12] {
    [
        ("granting takes W", Rule { granting_takes_w: false, ..RULE }),
        ("accepting without W", Rule { accepting_without_w: false, ..RULE }),
        ("shared tables are closed", Rule { closed: false, ..RULE }),
        ("no writable grant", Rule { no_writable_grant: false, ..RULE }),
        ("no own below", Rule { no_own_below: false, ..RULE }),
        ("a copy takes W", Rule { copy_takes_w: false, ..RULE }),
        ("a copy takes W there", Rule { copy_takes_w_there: false, ..RULE }),
        ("a copy lowers", Rule { copy_lowers: false, ..RULE }),
        ("MAY is lowered", Rule { lowers_may: false, ..RULE }),
        ("keeping takes W", Rule { keep_takes_w: false, ..RULE }),
        ("keeping lowers", Rule { keep_lowers: false, ..RULE }),
        ("tables are left to others", Rule { leaves_to_others: false, ..RULE }),
    ]
}
