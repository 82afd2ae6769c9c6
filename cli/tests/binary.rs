//! The binary from outside: what it says to people who make mistakes, and that its commands do what they say, against a
//! `tessera dev` of its own on free ports. What the processes promise under fire is tested in `e2e/`.

mod binary {
    pub(crate) mod against_dev;
    pub(crate) mod applying;
    pub(crate) mod damaged_row;
    pub(crate) mod dev;
    pub(crate) mod histories;
    pub(crate) mod mistakes;
    pub(crate) mod terminal;
}
