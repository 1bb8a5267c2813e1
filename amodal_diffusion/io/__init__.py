"""Readers and writers of videos, images, masks, annotations, depth and result folders."""
