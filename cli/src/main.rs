//! Entry point.

fn main() {
    println!("{:#}", tessera_cli::document::schema());
}
