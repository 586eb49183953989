//! Replies as memcached gives them, in every split, and with every byte altered.
