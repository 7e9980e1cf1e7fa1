"""timm's hub folders."""
