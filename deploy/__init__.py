"""What runs beside Nightshift: servers, deployments, containers."""
