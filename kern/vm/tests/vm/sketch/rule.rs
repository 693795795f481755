//! The parts of the rule for shared tables, each with a switch.

/// The parts of the rule.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Who shares a table can write nothing below any more.
    pub granting_takes_w: bool,
    /// Nor can who gets it.
    pub accepting_without_w: bool,
    /// Nothing below a shared table can be changed.
    pub closed: bool,
    /// A page below a shared table cannot be given on to be written.
    pub no_writable_grant: bool,
    /// A page below a shared table is nobody's to make private, even if it has one reference.
    pub no_own_below: bool,
    /// A table that is copied: tables below have two users now, here...
    pub copy_takes_w: bool,
    /// ...and where they were: the entry says whether a table can be given up without asking who else has it.
    pub copy_takes_w_there: bool,
    /// A table that is copied: pages below have two users now. (The table that was copied need not know. Whoever
    /// keeps it in the end looks at every page.)
    pub copy_lowers: bool,
    /// What could be made writable could be so by two.
    pub lowers_may: bool,
    /// The last one that has a table may have got it from others: the tables below are theirs, too...
    pub keep_takes_w: bool,
    /// ...and so are the pages that somebody else has.
    pub keep_lowers: bool,
    /// Who removes a shared table, or ends, leaves it to the others.
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
