"""`relay doctor`: what stands between this relay and its service and clients, checked and explained."""
