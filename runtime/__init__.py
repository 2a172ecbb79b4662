"""What every run needs: configuration, seeding, snapshots, the training loop, where weights lie."""
