"""Host key checking: known_hosts, host certificates, revoked keys, the policy for unknown hosts."""
