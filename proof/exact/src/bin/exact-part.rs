//! One part of a test in a process of its own: a server, a crowd of clients, a load.

fn main() -> std::process::ExitCode {
    ebb_exact::part::main()
}
