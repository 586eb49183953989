//! The core without any engine: `Proxy` is driven through its `Handler` methods and `poll_action` alone, with
//! virtual time, by a test that plays the clients, the backends and the clock. No socket, no thread, no
//! sleep.

mod proxy_core {
    mod binary;
    mod bounds;
    mod chaos;
    mod ejection;
    mod health;
    mod joined;
    mod joined_bounds;
    mod joined_faults;
    mod joined_order;
    mod joined_random;
    mod links;
    mod multigets;
    mod requests;
    mod rig;
    mod server;
    mod splits;
    mod timeouts;
    mod user;
    mod words;
}
