//! What the feed promises beyond the ports, on a real Kafka: it loses nothing that was acknowledged, notices what is no longer
//! there, passes on what is bad, and says what is wrong.

mod opening;
mod outages;
mod reading;
mod setup;
mod telling;
