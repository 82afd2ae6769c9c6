//! What the store promises beyond the ports, on a real Cassandra: what it says when it does not open, that every outcome is told as
//! it is, that readers follow a restore, that damage stays alone, and that it bears many hints and streams.

mod appending;
mod damage;
mod datacenters;
mod hinting;
mod moving;
mod opening;
mod outages;
mod place;
mod scanning;
mod writing;
