"""Commands that show what is there: plug-ins, figures, the installation."""
