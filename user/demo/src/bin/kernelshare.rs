//! The kernel's half of the page map is the same, page table by page table, in every environment.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use libos::{Error, Fork, Pte, fork, layout, println, uvpt};

libos::entry!(main);

const SLOTS: usize = 512;

fn top_level() -> [Pte; SLOTS] {
    core::array::from_fn(uvpt::top)
}

fn main() -> Result<(), Error> {
    let before = top_level();
    match fork()? {
        // The array was forked, too: it holds the parent's entries.
        Fork::Child => compare(&before, &top_level()),
        Fork::Parent(child) => {
            let status = child.wait()?;
            assert!(status.is_success(), "the child: {status}");
        }
    }
    Ok(())
}

fn compare(parent: &[Pte; SLOTS], child: &[Pte; SLOTS]) {
    let own = layout::UVPT_SLOT as usize;
    println!("top-level table of the parent: {:?}", parent[own].frame());
    println!("top-level table of the child:  {:?}", child[own].frame());
    assert_ne!(parent[own].frame(), child[own].frame());

    println!("slot  parent                 child");
    let mut shared = 0;
    for slot in 0..SLOTS {
        let (ours, theirs) = (child[slot], parent[slot]);
        if ours.is_empty() && theirs.is_empty() {
            continue;
        }
        let same = ours.frame() == theirs.frame();
        let note = if same { "the same table" } else { "its own" };
        println!(" {slot:3}  {:?}  {:?}  {note}", theirs.frame(), ours.frame());
        // The kernel's half and the windows are shared, the user's half is not.
        assert_eq!(same, slot > own || slot + 1 == own, "slot {slot}");
        shared += u32::from(same);
    }
    println!("{shared} tables are shared by everybody");
}
