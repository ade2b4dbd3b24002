"""The agent on the device: transfer, learner, memory. Never imports FastAPI or SQLAlchemy."""
