"""What answers requests: any replica may."""
