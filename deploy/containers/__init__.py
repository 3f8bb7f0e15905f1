"""What containers of deploy/Dockerfile run when they start; draw.sh is for the machine outside."""
